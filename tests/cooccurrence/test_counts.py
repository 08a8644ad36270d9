from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence import count_cooccurrence
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
        liked = [
            item
            for who, item, rating in zip(
                interactions.user_index, interactions.item_index, interactions.rating, strict=True
            )
            if who == user and (min_rating is None or rating >= min_rating)
        ]
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
        "liked_items": 3,
        "liked_interactions": 3 + 2 + 1,
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
