import pandas as pd
import pytest

from recsys.data import DataConfig, read_ratings
from recsys.data.validation import Checks
from recsys.errors import ConfigError, DataError


def test_the_default_uses_everything_and_leaves_last_out(small_log):
    config = DataConfig()
    ratings = read_ratings(small_log)
    left, reports = config.filters.apply(ratings)
    assert left is ratings
    assert reports == []
    split = config.split.apply(ratings)
    # Users 1, 2 and 3 have 4, 3 and 2 interactions; the third has too few for targets.
    assert len(split.train) == 2 + 1 + 2


def test_filters_are_applied_in_order(small_log):
    settings = {
        "filters": {
            "min_rating": 4,
            "end": 300,
            "min_user_interactions": 2,
            "min_item_interactions": 2,
        }
    }
    config = DataConfig.model_validate(settings)
    left, reports = config.filters.apply(read_ratings(small_log))
    # 1: 10, 20, 30 and 2: 20, 10 are rated 4 or more before 300; 30 has one interaction.
    assert left.items.ids[left.item_index].tolist() == [10, 20, 20, 10]
    assert [report.name for report in reports] == [
        "min_rating(4)",
        "time_window(before 300)",
        "k_core(min_user_interactions=2, min_item_interactions=2)",
    ]
    assert reports[-1].metrics() == {
        "k_core_removed_rows": 1.0, "k_core_removed_users": 0.0, "k_core_removed_items": 1.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("split", "n_train"),
    [
        ({"method": "leave_last_n", "n": 1}, 5),
        ({"method": "per_user_ratio", "validation": 0.25, "test": 0.25}, 7),
        # Before 120: user 1 has 10 and 20, user 2 has 20. The first of user 3 is excluded.
        ({"method": "global_time_cut", "validation_from": 120, "test_from": 130}, 3),
    ],
    ids=["last n", "ratio", "cut"],
)
def test_every_splitter_is_configurable(small_log, split, n_train):
    config = DataConfig.model_validate({"split": split})
    assert len(config.split.apply(read_ratings(small_log)).train) == n_train


@pytest.mark.parametrize(
    "settings",
    [
        {"split": {"method": "random"}},
        {"split": {"method": "leave_last_out", "n": 2}},
        {"filters": {"min_user_interactions": 0}},
        {"checks": {"missing_id": "keep"}},
        {"checks": {"speed": "error"}},
    ],
    ids=str,
)
def test_invalid_settings_are_an_error(settings):
    with pytest.raises(ConfigError):
        DataConfig.model_validate(settings)


def test_invalid_checks_are_named():
    with pytest.raises(ConfigError, match=r"dupes = 'error': .*; the settings are malformed_row, "):
        Checks.model_validate({"dupes": "error"})
    with pytest.raises(ConfigError, match="duplicate = 'drop': "):
        Checks.model_validate({"duplicate": "drop"})


def test_checks_are_configurable(small_log):
    config = DataConfig.model_validate({"checks": {"duplicate": "error", "scale": [1, 10]}})
    twice = pd.concat([small_log, small_log])
    with pytest.raises(DataError, match="duplicate, 9 such rows"):
        read_ratings(twice, checks=config.checks)


def test_filters_are_in_the_fingerprint(small_log):
    config = DataConfig.model_validate({"filters": {"min_rating": 3, "min_item_interactions": 2}})
    left, _ = config.filters.apply(read_ratings(small_log))
    split = config.split.apply(left)
    assert DataConfig().filters.fingerprint() == {}
    added = {"filter_min_rating": 3.0, "filter_min_item_interactions": 2}
    fingerprint = split.with_filters(config.filters.fingerprint()).fingerprint("test")
    assert fingerprint == {**split.fingerprint("test"), **added}
