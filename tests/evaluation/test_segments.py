import numpy as np
import pandas as pd
import pytest

from recsys.data import global_time_cut, leave_last_out, read_ratings
from recsys.evaluation import by_segment, evaluate, segments_of
from recsys.evaluation.segments import popularity_deciles


class ByIndex:
    def score(self, histories):
        return np.tile(-np.arange(10, dtype=np.float32), (len(histories), 1))


@pytest.fixture
def log():
    """Users of 3 to 10 watches, each from item 0 on."""
    rows = [(user, item, 100 * item + user) for user in range(8) for item in range(3 + user)]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))


def test_histories_are_divided_into_quarters_by_length(log):
    lengths = segments_of(leave_last_out(log), "test")["history length"]
    assert list(lengths) == [
        name for name in ("2 to 3", "4 to 5", "6 to 7", "8 to 9") for _ in range(2)
    ]


def test_equal_lengths_are_one_segment():
    rows = [(user, item) for user in range(5) for item in range(4)]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))
    assert set(segments_of(leave_last_out(log), "test")["history length"]) == {"3 to 3"}


def test_deciles_hold_a_tenth_of_all_watches_each():
    # Of 20 watches, item 0 has 10 and items 1 to 10 one each.
    items = [0] * 10 + list(range(1, 11))
    log = read_ratings(pd.DataFrame({"user_id": range(20), "item_id": items}))
    assert popularity_deciles(log).tolist() == [0, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]


def test_cold_users_and_items_are_told_apart():
    # Train ends at 10: user 3 has nothing before, item 9 neither.
    rows = [(1, 0, 1), (1, 1, 20), (2, 1, 2), (2, 9, 21), (3, 0, 3), (4, 0, 22), (4, 1, 23)]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))
    split = global_time_cut(log, validation_from=10, test_from=20)
    segments = segments_of(split, "test")
    assert list(segments["start"]) == ["warm", "cold item", "cold user"]
    assert pd.isna(segments["popularity decile"]).tolist() == [False, True, False]


def test_a_table_has_the_means_of_each_segment(log):
    split = leave_last_out(log)
    report = evaluate(ByIndex(), split)
    segments = segments_of(split, "test")
    table = by_segment(report.ranks, segments, ks=[1, 10])
    # Items 8 and 9 are nowhere in train: their popularity has no decile.
    assert table.groupby("by")["targets"].sum().to_dict() == {
        "history length": 8, "popularity decile": 6, "start": 8
    }  # fmt: skip
    for (by, name), row in table.iterrows():
        ranks = report.ranks[segments[by] == name]
        assert row["targets"] == len(ranks)
        assert row["mrr_at_10"] == pytest.approx(np.mean(np.where(ranks <= 10, 1 / ranks, 0)))
        assert row["hit_rate_at_1"] == np.mean(ranks == 1)
