import math
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.cooccurrence import (
    WEIGHTINGS,
    WeightingConfig,
    Window,
    count_cooccurrence,
    count_neighbours,
    keep_top_k,
    top_k,
    weight,
)
from recsys.cooccurrence.weightings import WeightingName
from recsys.data import read_ratings
from recsys.errors import ConfigError


def test_cosine_is_the_count_over_the_geometric_mean_of_the_item_counts():
    # Users: item 1: users 1 2 3 4; item 2: users 1 2; item 3: user 2; item 4: user 5.
    log = pd.DataFrame(
        {"user_id": [1, 2, 3, 4, 1, 2, 2, 5], "item_id": [1, 1, 1, 1, 2, 2, 3, 4]},
    )
    similarity = weight(count_cooccurrence(read_ratings(log)))
    assert similarity.dtype == np.float32
    np.testing.assert_allclose(
        similarity.toarray(),
        [
            [0, 2 / math.sqrt(4 * 2), 1 / math.sqrt(4 * 1), 0],
            [2 / math.sqrt(4 * 2), 0, 1 / math.sqrt(2 * 1), 0],
            [1 / math.sqrt(4 * 1), 1 / math.sqrt(2 * 1), 0, 0],
            [0, 0, 0, 0],
        ],
        rtol=1e-6,
    )


def test_cosine_equals_that_of_the_columns_of_the_user_item_matrix(sample):
    user_item = sample.user_item_matrix().toarray().astype(np.float64)
    norms = np.linalg.norm(user_item, axis=0)
    expected = user_item.T @ user_item / np.outer(norms, norms)
    np.fill_diagonal(expected, 0)
    similarity = weight(count_cooccurrence(sample, min_rating=None)).toarray()
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)


# Users: item 1: users 1 2 3 4; item 2: users 1 2; item 3: user 2; item 4: user 5. Of users 5.
# x_12 = 2, x_13 = x_23 = 1; n = 4 2 1 1.
TABLE = {
    "raw": {(0, 1): 2, (0, 2): 1, (1, 2): 1},
    "log1p": {(0, 1): math.log(3), (0, 2): math.log(2), (1, 2): math.log(2)},
    "sqrt": {(0, 1): math.sqrt(2), (0, 2): 1, (1, 2): 1},
    "cosine": {(0, 1): 2 / math.sqrt(4 * 2), (0, 2): 1 / math.sqrt(4), (1, 2): 1 / math.sqrt(2)},
    "jaccard": {(0, 1): 2 / 4, (0, 2): 1 / 4, (1, 2): 1 / 2},
    "overlap": {(0, 1): 2 / 2, (0, 2): 1 / 1, (1, 2): 1 / 1},
    "lift": {(0, 1): 2 * 5 / (4 * 2), (0, 2): 1 * 5 / (4 * 1), (1, 2): 1 * 5 / (2 * 1)},
    "pmi": {(0, 1): math.log(5 / 4), (0, 2): math.log(5 / 4), (1, 2): math.log(5 / 2)},
    "ppmi": {(0, 1): math.log(5 / 4), (0, 2): math.log(5 / 4), (1, 2): math.log(5 / 2)},
    "shifted_ppmi": {(1, 2): math.log(5 / 2) - math.log(2)},
    "lmi": {
        (0, 1): 2 * math.log2(5 / 4),
        (0, 2): math.log2(5 / 4),
        (1, 2): math.log2(5 / 2),
    },
}


@pytest.fixture
def five_users():
    log = pd.DataFrame({"user_id": [1, 2, 3, 4, 1, 2, 2, 5], "item_id": [1, 1, 1, 1, 2, 2, 3, 4]})
    return count_cooccurrence(read_ratings(log))


def symmetric(entries, n_items=4):
    table = np.zeros((n_items, n_items))
    for (a, b), value in entries.items():
        table[a, b] = table[b, a] = value
    return table


@pytest.mark.parametrize("name", TABLE)
def test_weights_equal_those_computed_by_hand(five_users, name):
    weighted = weight(five_users, WeightingConfig(name=name, shift=2.0))
    assert weighted.dtype == np.float32
    assert weighted.has_sorted_indices
    np.testing.assert_allclose(weighted.toarray(), symmetric(TABLE[name]), rtol=1e-6)


def test_conditional_is_the_probability_of_the_column_given_the_row(five_users):
    weighted = weight(five_users, WeightingConfig(name="conditional")).toarray()
    assert weighted[0].tolist() == [0, 2 / 4, 1 / 4, 0]
    assert weighted[1].tolist() == [2 / 2, 0, 1 / 2, 0]
    assert weighted[2].tolist() == [1, 1, 0, 0]


def test_every_weighting_is_listed_and_documented():
    assert set(WEIGHTINGS) == set(get_args(WeightingName)) == {*TABLE, "conditional"}
    assert all(formula.__doc__ for formula in WEIGHTINGS.values())
    with pytest.raises(ConfigError, match="Input should be 'raw'"):
        WeightingConfig(name="cosinus")


def test_rarer_than_by_chance_is_negative_pmi_and_empty_ppmi():
    # Of 4 users, 3 have item 1, 3 have item 2, and 2 have both: 2 · 4 / 9 < 1.
    log = pd.DataFrame({"user_id": [1, 2, 3, 1, 2, 4], "item_id": [1, 1, 1, 2, 2, 2]})
    counts = count_cooccurrence(read_ratings(log))
    negative = weight(counts, WeightingConfig(name="pmi")).toarray()[0, 1]
    assert negative == np.float32(math.log(8 / 9))
    assert weight(counts, WeightingConfig(name="ppmi")).nnz == 0


def test_min_count_removes_entries(five_users):
    weighted = weight(five_users, WeightingConfig(name="jaccard", min_count=2))
    assert weighted.nnz == 2
    np.testing.assert_allclose(weighted.toarray(), symmetric({(0, 1): 2 / 4}))


def test_shrinkage(five_users):
    weighted = weight(five_users, WeightingConfig(name="jaccard", shrinkage=2))
    half, third = 2 / (2 + 2), 1 / (1 + 2)
    expected = {(0, 1): 2 / 4 * half, (0, 2): 1 / 4 * third, (1, 2): 1 / 2 * third}
    np.testing.assert_allclose(weighted.toarray(), symmetric(expected), rtol=1e-6)


def test_ppmi_within_a_window_is_over_the_pairs():
    # The pairs of 1 2 3 within 1: 12 21 23 32; item 2 is in two of the four, the others in one.
    log = read_ratings(pd.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3]}))
    counts = count_cooccurrence(log, window=Window(size=1))
    weighted = weight(counts, WeightingConfig(name="ppmi"))
    expected = symmetric({(0, 1): math.log(4 / 2), (1, 2): math.log(4 / 2)}, n_items=3)
    np.testing.assert_allclose(weighted.toarray(), expected, rtol=1e-6)


@pytest.mark.parametrize("window", [None, Window(size=3, direction="forward", decay="harmonic")])
@pytest.mark.parametrize("name", ["cosine", "conditional", "ppmi"])
def test_neighbours_have_the_largest_weights(skewed, name, window):
    config = WeightingConfig(name=name, shrinkage=3)
    counts = count_cooccurrence(skewed, window=window)
    expected = keep_top_k(weight(counts, config), 7)
    found = count_neighbours(skewed, 7, config, window=window)
    assert (found != expected).nnz == 0
    assert found.nnz == expected.nnz > 0


@given(
    dense=arrays.arrays(np.float32, (4, 7), elements=st.sampled_from([0, 0.25, 0.5, 1, 2])),
    k=st.integers(0, 8),
)
def test_top_k_of_each_row_with_ties_by_column(dense, k):
    expected = np.zeros_like(dense)
    for row, values in enumerate(dense):
        stored = [column for column in range(len(values)) if values[column]]
        for column in sorted(stored, key=lambda column: (-values[column], column))[:k]:
            expected[row, column] = values[column]
    kept = keep_top_k(sp.csr_array(dense), k)
    assert kept.toarray().tolist() == expected.tolist()
    assert kept.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize("shape", [(0, 0), (3, 3)])
def test_top_k_of_an_empty_matrix(shape):
    assert keep_top_k(sp.csr_array(shape, dtype=np.float32), 2).shape == shape


@pytest.mark.parametrize("n_items", [3, 511, 512, 5000])
def test_top_zero_is_empty(n_items):
    scores = np.ones((2, n_items), np.float32)
    rows, items = top_k(scores, 0)
    assert rows.shape == items.shape == (0,)
    assert rows.dtype == items.dtype == np.int64
    kept = keep_top_k(sp.csr_array(scores), 0)
    assert (kept.nnz, kept.shape) == (0, scores.shape)
