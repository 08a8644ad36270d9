from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence import (
    CooccurrenceConfig,
    Window,
    count_cooccurrence,
)
from recsys.data import read_ratings
from recsys.errors import DataError

# (user, item) -> rating; user 0 rates item 0 with 5, so that there is always a positive.
logs = st.dictionaries(
    st.tuples(st.integers(0, 6), st.integers(0, 6)), st.sampled_from([1.0, 3.5, 4.0, 5.0])
).map(lambda log: log | {(0, 0): 5.0})


def interactions_of(log):
    rows = [(user, item, rating) for (user, item), rating in log.items()]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "rating"]))


def count_by_loops(interactions, min_rating):
    """X_ij and item counts by a loop over the pairs of each user."""
    pairs = np.zeros((interactions.n_items, interactions.n_items), dtype=int)
    singles = np.zeros(interactions.n_items, dtype=int)
    for user in range(interactions.n_users):
        items = {
            item
            for who, item, rating in zip(
                interactions.user_index, interactions.item_index, interactions.rating, strict=True
            )
            if who == user and (min_rating is None or rating >= min_rating)
        }
        for item in items:
            singles[item] += 1
        for a, b in permutations(items, 2):
            pairs[a, b] += 1
    return pairs, singles


@given(log=logs, min_rating=st.sampled_from([None, 0.5, 3.5, 4.0]))
def test_counts_equal_a_loop_over_pairs(log, min_rating):
    interactions = interactions_of(log)
    counts = count_cooccurrence(interactions, min_rating)
    pairs, singles = count_by_loops(interactions, min_rating)
    assert counts.matrix.toarray().tolist() == pairs.tolist()
    assert counts.item_counts.tolist() == singles.tolist()
    assert counts.n_users == interactions.n_users
    assert counts.items == interactions.items


@given(log=logs)
def test_matrix_format(log):
    matrix = count_cooccurrence(interactions_of(log)).matrix
    assert matrix.dtype == np.int32
    assert matrix.has_sorted_indices
    assert (matrix.data > 0).all(), "neither zeros nor the diagonal are stored"
    assert (matrix != matrix.T).nnz == 0


def test_the_threshold_is_inclusive_and_4_by_default(small_log):
    # Rated 4 or higher: user 1: 10 20 30; 2: 10 20; 3: 10.
    counts = count_cooccurrence(read_ratings(small_log))
    assert counts.min_rating == 4.0
    assert counts.matrix.toarray().tolist() == [
        [0, 2, 1, 0, 0],
        [2, 0, 1, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    assert counts.item_counts.tolist() == [3, 2, 1, 0, 0]
    assert counts.summary() == {
        "positive_items": 3,
        "positive_interactions": 3 + 2 + 1,
        "pairs": 3,
        "density": 2 * 3 / (5 * 4),
    }


def test_without_ratings_every_row_counts(small_log):
    interactions = read_ratings(small_log.drop(columns="rating"))
    counts = count_cooccurrence(interactions, min_rating=4.0)
    assert counts.min_rating is None
    assert counts.item_counts.tolist() == [3, 2, 2, 1, 1]


def test_a_threshold_above_all_ratings_is_rejected(small_log):
    with pytest.raises(DataError, match=r"no rating is 6.0 or higher \(the highest is 5\)"):
        count_cooccurrence(read_ratings(small_log), min_rating=6.0)


@pytest.mark.parametrize("min_rating", [None, 4.0])
def test_counting_does_not_change_the_interactions(small_log, min_rating):
    interactions = read_ratings(small_log)
    before = interactions.item_index.copy()
    count_cooccurrence(interactions, min_rating)
    assert interactions.item_index.tolist() == before.tolist()


def test_the_same_item_twice_counts_once():
    once = interactions_of({(0, 0): 5.0, (0, 1): 5.0, (1, 1): 5.0})
    twice = replace(
        once,
        user_index=np.array([0, 0, 0, 0, 1], np.int32),
        item_index=np.array([1, 0, 1, 0, 1], np.int32),
        rating=np.full(5, 5.0, np.float32),
        user_offsets=np.array([0, 4, 5]),
    )
    counts = count_cooccurrence(twice)
    assert counts.matrix.toarray().tolist() == [[0, 1], [1, 0]]
    assert counts.item_counts.tolist() == [1, 2]


@pytest.mark.parametrize("log", [{(0, 0): 5.0}, {(0, 0): 5.0, (1, 0): 4.0}], ids=["user", "item"])
def test_a_single_item_has_no_pairs(log):
    counts = count_cooccurrence(interactions_of(log))
    assert counts.matrix.nnz == 0
    assert counts.matrix.shape == (1, 1)
    assert counts.item_counts.tolist() == [len(log)]
    assert counts.summary()["density"] == 0


def test_one_user_pairs_everything():
    counts = count_cooccurrence(interactions_of({(7, item): 5.0 for item in range(70)}))
    assert counts.matrix.toarray().tolist() == (1 - np.eye(70, dtype=int)).tolist()


def test_empty_interactions_are_rejected():
    empty = interactions_of({(0, 0): 5.0}).filter(np.array([False]))
    with pytest.raises(DataError, match="there are no interactions to count"):
        count_cooccurrence(empty)


def test_counting_can_be_configured_as_a_window():
    config = CooccurrenceConfig(window=Window(size=2))
    assert CooccurrenceConfig.model_validate(config.model_dump()) == config
