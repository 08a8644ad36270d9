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

# (user, item) -> rating; user 0 likes item 0 in any case, so that something is liked.
logs = st.dictionaries(
    st.tuples(st.integers(0, 6), st.integers(0, 6)), st.sampled_from([1.0, 3.5, 4.0, 5.0])
).map(lambda log: log | {(0, 0): 5.0})


def interactions_of(log):
    rows = [(user, item, rating) for (user, item), rating in log.items()]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "rating"]))


def count_by_loops(interactions, min_rating):
    """X_ij and n_i by going over the pairs of each user."""
    pairs = np.zeros((interactions.n_items, interactions.n_items), dtype=int)
    singles = np.zeros(interactions.n_items, dtype=int)
    for user in range(interactions.n_users):
        liked = {
            item
            for who, item, rating in zip(
                interactions.user_index, interactions.item_index, interactions.rating, strict=True
            )
            if who == user and (min_rating is None or rating >= min_rating)
        }
        for item in liked:
            singles[item] += 1
        for one, other in permutations(liked, 2):
            pairs[one, other] += 1
    return pairs, singles


@given(log=logs, min_rating=st.sampled_from([None, 0.5, 3.5, 4.0]))
def test_counts_are_those_of_a_loop_over_pairs(log, min_rating):
    interactions = interactions_of(log)
    counts = count_cooccurrence(interactions, min_rating)
    pairs, singles = count_by_loops(interactions, min_rating)
    assert counts.matrix.toarray().tolist() == pairs.tolist()
    assert counts.item_counts.tolist() == singles.tolist()
    assert counts.n_users == interactions.n_users
    assert counts.items == interactions.items


@given(log=logs)
def test_the_matrix_is_as_promised(log):
    matrix = count_cooccurrence(interactions_of(log)).matrix
    assert matrix.dtype == np.int32
    assert matrix.has_sorted_indices
    assert (matrix.data > 0).all(), "zeros are not stored, the diagonal neither"
    assert (matrix != matrix.T).nnz == 0


def test_the_threshold_counts_as_liked_and_is_4_by_default(small_log):
    # Liked at 4 or more: user 1: 10 20 30; 2: 10 20; 3: 10.
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
    watches = read_ratings(small_log.drop(columns="rating"))
    counts = count_cooccurrence(watches, min_rating=4.0)
    assert counts.min_rating is None
    assert counts.item_counts.tolist() == [3, 2, 2, 1, 1]


def test_a_threshold_above_all_ratings_is_refused(small_log):
    with pytest.raises(DataError, match=r"no rating is 6.0 or higher \(the highest is 5\)"):
        count_cooccurrence(read_ratings(small_log), min_rating=6.0)


@pytest.mark.parametrize("min_rating", [None, 4.0])
def test_counting_leaves_the_interactions_as_they_are(small_log, min_rating):
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
def test_of_one_item_there_are_no_pairs(log):
    counts = count_cooccurrence(interactions_of(log))
    assert counts.matrix.nnz == 0
    assert counts.matrix.shape == (1, 1)
    assert counts.item_counts.tolist() == [len(log)]
    assert counts.summary()["density"] == 0


def test_one_user_pairs_everything():
    counts = count_cooccurrence(interactions_of({(7, item): 5.0 for item in range(70)}))
    assert counts.matrix.toarray().tolist() == (1 - np.eye(70, dtype=int)).tolist()


def test_without_interactions_there_is_nothing_to_count():
    none = interactions_of({(0, 0): 5.0}).filter(np.array([False]))
    with pytest.raises(DataError, match="there are no interactions to count"):
        count_cooccurrence(none)


def test_weights_beyond_32_bits_are_counted_exactly():
    log = interactions_of({(0, 0): 5.0, (0, 1): 5.0, (1, 0): 5.0, (1, 1): 5.0, (1, 2): 5.0})
    counts = count_cooccurrence(log, user_weights=np.array([2**31, 2**61 + 1]))
    both, one = 2**31 + 2**61 + 1, 2**61 + 1
    assert counts.matrix.dtype == np.int64
    assert counts.matrix.toarray().tolist() == [[0, both, one], [both, 0, one], [one, one, 0]]
    assert counts.item_counts.tolist() == [both, both, one]
    assert counts.n_users == both
    assert counts.is_weighted


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            np.array([1]),
            r"user_weights has the shape \(1,\); there must be one for each user, \(2,",
        ),
        (np.array([1.0, 2.0]), "user_weights must be whole numbers from 0"),
        (np.array([1, -1]), "user_weights must be whole numbers from 0"),
        (np.array([2**62, 2**62]), "user_weights sum up to more than 2⁶³"),
    ],
    ids=["shape", "fractions", "negative", "sum"],
)
def test_weights_that_cannot_be_are_refused(weights, message):
    log = interactions_of({(0, 0): 5.0, (1, 1): 5.0})
    with pytest.raises(DataError, match=message):
        count_cooccurrence(log, user_weights=weights)


def test_counting_can_be_configured_as_a_window():
    config = CooccurrenceConfig(window=Window(size=2))
    assert CooccurrenceConfig.model_validate(config.model_dump()) == config
