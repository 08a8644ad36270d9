"""Reference counts and interactions shared by the tests."""

import numpy as np
import pandas as pd
import pytest

from recsys.data import read_ratings


@pytest.fixture(scope="session")
def count_by_product():
    """Count with scipy: XᵀX of the user × item matrix, with zero diagonal."""

    def count(interactions, min_rating=None):
        positives = interactions
        if min_rating is not None and interactions.rating is not None:
            positives = interactions.filter(interactions.rating >= min_rating)
        user_item = positives.user_item_matrix()
        matrix = (user_item.T @ user_item).tocsr()
        matrix.setdiag(0)
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return matrix

    return count


@pytest.fixture(scope="session")
def assert_equal():
    """Require equal types, structure and values."""

    def check(matrix, expected):
        assert matrix.dtype == expected.dtype
        assert matrix.shape == expected.shape
        assert np.array_equal(matrix.indptr, expected.indptr)
        assert np.array_equal(matrix.indices, expected.indices)
        assert np.array_equal(matrix.data, expected.data)

    return check


@pytest.fixture(scope="session")
def skewed():
    """400 users and 700 items, of which a few are popular and most are rare."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, 701)
    rows = []
    for user in range(400):
        n_items = int(rng.integers(1, 250)) if user % 4 else 3
        items = rng.choice(700, n_items, replace=False, p=popularity / popularity.sum())
        rows += [(user, item) for item in items]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))
