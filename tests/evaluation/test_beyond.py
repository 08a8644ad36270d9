import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import read_ratings
from recsys.evaluation import beyond_accuracy, diversity, serendipity
from recsys.evaluation.beyond import coverage, gini, mean_popularity, novelty

LISTS = np.array([[0, 1], [0, 2], [0, -1]], dtype=np.int32)


def test_coverage_is_the_share_of_items_recommended_to_anyone():
    assert coverage(LISTS, 5) == 3 / 5


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1, 1, 1, 1], 0),
        ([4, 0, 0, 0], 3 / 4),
        ([1, 3], 1 / 4),
        # Differences of all pairs: 2 + 2 + 3 + 3 + 0 + 1 + 1 + 1 + 1 + 0 = 14; the mean is 1.
        ([3, 1, 1, 0, 0], 2 * 14 / (2 * 5 * 5)),
    ],
)
def test_gini_by_hand(counts, expected):
    lists = np.repeat(np.arange(len(counts)), counts).astype(np.int32)[:, None]
    assert gini(lists, len(counts)) == pytest.approx(expected)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_gini_is_half_the_relative_mean_difference(items):
    counts = np.bincount(items, minlength=7)
    slow = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert gini(np.array(items, dtype=np.int32)[:, None], 7) == pytest.approx(slow)


def test_popularity_and_novelty_by_hand():
    popularity = np.array([1 / 2, 1 / 4, 0])
    # 0 three times, 1 and 2 once.
    assert mean_popularity(LISTS, popularity) == pytest.approx((3 / 2 + 1 / 4 + 0) / 5)
    # 1, 2 and, as though one of 8 users had watched it, 3 bits.
    assert novelty(LISTS, popularity, n_users=8) == pytest.approx((3 * 1 + 2 + 3) / 5)


@given(
    lists=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3, unique=True), min_size=1),
    seed=st.integers(0, 5),
)
def test_diversity_is_the_mean_distance_of_pairs(lists, seed):
    vectors = np.random.default_rng(seed).standard_normal((5, 3))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    slow = [np.mean([1 - units[i] @ units[j] for i in row for j in row if i != j]) for row in lists]
    lists = np.array(lists, dtype=np.int32)
    assert diversity(lists, vectors) == pytest.approx(np.mean(slow))
    with_empty = np.hstack([lists, np.full((len(lists), 1), -1, np.int32)])
    assert diversity(with_empty, vectors) == pytest.approx(np.mean(slow))


def test_an_item_without_a_vector_is_like_nothing():
    assert diversity(np.array([[0, 1]], np.int32), np.array([[1.0, 0], [0, 0]])) == 1.0


def test_serendipity_counts_what_popularity_would_have_missed():
    ranks, obvious = np.array([1, 2, 3, 9]), np.array([1, 9, 4, 1])
    assert serendipity(ranks, obvious, 3) == 2 / 4  # the second and the third
    with pytest.raises(ValueError, match="4 ranks, but 3 by popularity"):
        serendipity(ranks, obvious[:3], 3)


def test_all_of_it_at_the_length_of_the_lists():
    # Of two users, both watched item 0 and one item 1; the third watched nothing that is kept.
    log = read_ratings(pd.DataFrame({"user_id": [1, 1, 2, 3], "item_id": [0, 1, 0, 2]}))
    train = log.filter(log.user_index < 2)
    assert beyond_accuracy(LISTS, train) == pytest.approx(
        {
            "coverage_at_2": 1,
            "gini_at_2": (2 * 2 * 2) / (2 * 9 * 5 / 3),
            "popularity_at_2": (3 * 1 + 1 / 2 + 0) / 5,
            "novelty_at_2": -(3 * math.log2(1) + math.log2(1 / 2) + math.log2(1 / 2)) / 5,
        }
    )
