import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.evaluation.metrics import METRICS, TITLES, hit_rate, mean_metrics, mrr, ndcg

RANKS = np.array([1, 2, 3, 10, 11])


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (hit_rate, 1, [1, 0, 0, 0, 0]),
        (hit_rate, 10, [1, 1, 1, 1, 0]),
        (mrr, 2, [1, 1 / 2, 0, 0, 0]),
        (mrr, 10, [1, 1 / 2, 1 / 3, 1 / 10, 0]),
        (ndcg, 2, [1, 1 / math.log2(3), 0, 0, 0]),
        (ndcg, 10, [1, 1 / math.log2(3), 1 / 2, 1 / math.log2(11), 0]),
    ],
)
def test_by_hand(metric, k, expected):
    assert metric(RANKS, k).tolist() == pytest.approx(expected)


def test_means_are_over_users():
    assert mean_metrics(np.array([1, 3, 20]), ks=[2, 10]) == pytest.approx(
        {
            "hit_rate_at_2": 1 / 3,
            "hit_rate_at_10": 2 / 3,
            "ndcg_at_2": 1 / 3,
            "ndcg_at_10": (1 + 1 / 2) / 3,
            "mrr_at_2": 1 / 3,
            "mrr_at_10": (1 + 1 / 3) / 3,
        }
    )


@given(ranks=st.lists(st.integers(1, 50), min_size=1), k=st.integers(1, 50))
def test_metrics_lie_between_0_and_1_and_mrr_below_ndcg_below_hit_rate(ranks, k):
    ranks = np.array(ranks)
    low, middle, high = (metric(ranks, k) for metric in (mrr, ndcg, hit_rate))
    assert (low >= 0).all()
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert (high <= 1).all()


def test_every_metric_has_a_name_for_people():
    assert sorted(TITLES) == sorted(METRICS)
