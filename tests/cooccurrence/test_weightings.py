import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.cooccurrence import cosine, count_cooccurrence, keep_top_k
from recsys.data import read_ratings


def test_cosine_is_the_count_over_the_geometric_mean_of_the_audiences():
    # Watched by: item 1: users 1 2 3 4; item 2: users 1 2; item 3: user 2; item 4: user 5.
    log = pd.DataFrame(
        {"user_id": [1, 2, 3, 4, 1, 2, 2, 5], "item_id": [1, 1, 1, 1, 2, 2, 3, 4]},
    )
    similarity = cosine(count_cooccurrence(read_ratings(log)))
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


def test_cosine_is_that_of_the_columns_of_the_user_item_matrix(sample):
    watched = sample.user_item_matrix().toarray().astype(np.float64)
    norms = np.linalg.norm(watched, axis=0)
    expected = watched.T @ watched / np.outer(norms, norms)
    np.fill_diagonal(expected, 0)
    similarity = cosine(count_cooccurrence(sample, min_rating=None)).toarray()
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)


@given(
    dense=arrays.arrays(np.float32, (4, 7), elements=st.sampled_from([0, 0.25, 0.5, 1, 2])),
    k=st.integers(1, 8),
)
def test_the_k_largest_of_each_row_are_kept_ties_by_column(dense, k):
    expected = np.zeros_like(dense)
    for row, values in enumerate(dense):
        stored = [column for column in range(len(values)) if values[column]]
        for column in sorted(stored, key=lambda column: (-values[column], column))[:k]:
            expected[row, column] = values[column]
    kept = keep_top_k(sp.csr_array(dense), k)
    assert kept.toarray().tolist() == expected.tolist()
    assert kept.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize("shape", [(0, 0), (3, 3)])
def test_of_nothing_nothing_is_kept(shape):
    assert keep_top_k(sp.csr_array(shape, dtype=np.float32), 2).shape == shape
