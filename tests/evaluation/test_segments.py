import numpy as np
import pandas as pd
import pytest

from recsys.data import Split, global_time_cut, leave_last_out, read_ratings
from recsys.evaluation import evaluate, segment_metrics, segment_targets
from recsys.evaluation.segments import popularity_deciles


class ByIndex:
    def __init__(self, n_items=10):
        self.n_items = n_items

    def score(self, histories):
        return np.tile(-np.arange(self.n_items, dtype=np.float32), (len(histories), 1))


@pytest.fixture
def log():
    """Users with 3 to 10 interactions, each from item 0 on."""
    rows = [(user, item, 100 * item + user) for user in range(8) for item in range(3 + user)]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))


def test_histories_are_divided_into_quartiles_by_length(log):
    lengths = segment_targets(leave_last_out(log), "test")["history length"]
    assert list(lengths) == [
        name for name in ("2 to 3", "4 to 5", "6 to 7", "8 to 9") for _ in range(2)
    ]


def test_equal_lengths_are_one_segment():
    rows = [(user, item) for user in range(5) for item in range(4)]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))
    assert set(segment_targets(leave_last_out(log), "test")["history length"]) == {"3 to 3"}


def test_each_decile_holds_a_tenth_of_all_interactions():
    # Of 20 interactions, item 0 has 10 and items 1 to 10 one each.
    items = [0] * 10 + list(range(1, 11))
    log = read_ratings(pd.DataFrame({"user_id": range(20), "item_id": items}))
    assert popularity_deciles(log).tolist() == [0, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]


def test_cold_users_and_cold_items_are_distinguished():
    # Train ends at 10; user 4 and item 9 are not in it.
    rows = [(1, 0, 1), (1, 1, 20), (2, 1, 2), (2, 9, 21), (3, 0, 3), (4, 0, 22), (4, 1, 23)]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))
    split = global_time_cut(log, validation_from=10, test_from=20)
    segments = segment_targets(split, "test")
    assert list(segments["cold start"]) == ["warm", "cold item", "cold user"]
    assert pd.isna(segments["popularity decile"]).tolist() == [False, True, False]


def test_the_table_has_the_means_of_each_segment(log):
    split = leave_last_out(log)
    report = evaluate(ByIndex(), split)
    segments = segment_targets(split, "test")
    table = segment_metrics(report, segments, ks=[1, 10])
    # Items 8 and 9 are not in train, so that they have no decile.
    assert table.groupby("segmentation")["n_targets"].sum().to_dict() == {
        "cold start": 8, "history length": 8, "popularity decile": 6
    }  # fmt: skip
    for (segmentation, segment), row in table.iterrows():
        ranks = report.ranks[segments[segmentation] == segment]
        assert row["n_targets"] == len(ranks)
        assert row["mrr_at_10"] == pytest.approx(np.mean(np.where(ranks <= 10, 1 / ranks, 0)))
        assert row["hit_rate_at_1"] == np.mean(ranks == 1)


def test_a_user_counts_once_in_a_segment():
    rows = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 4)]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))
    split = Split(log, np.array([0, 2, 2, 2, 0, 2], dtype=np.int8), "by hand")
    report = evaluate(ByIndex(5), split)  # ranks 1 1 1 and 4
    table = segment_metrics(report, {"all": pd.Categorical(["one"] * 4)}, ks=[1])
    assert table.loc[("all", "one"), ["n_targets", "hit_rate_at_1"]].tolist() == [4, 0.5]
