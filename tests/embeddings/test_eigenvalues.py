"""The ends of the spectrum against all of it."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.cooccurrence import count_cooccurrence
from recsys.embeddings.eigenvalues import extreme_eigenvalues, orthonormal
from recsys.embeddings.matrices import PairMatrix

CPU = torch.device("cpu")


def ends_of(dense):
    return extreme_eigenvalues(PairMatrix(sp.csr_array(dense), CPU))


@given(
    arrays.arrays(np.int32, (7, 7), elements=st.integers(-9, 9))
    .map(lambda X: np.triu(X, 1) + np.triu(X, 1).T)
    .filter(np.any)
)
def test_a_small_matrix_has_exact_ends(dense):
    values = np.linalg.eigvalsh(dense.astype(float))
    assert ends_of(dense) == pytest.approx((values[0], values[-1]), rel=1e-5, abs=1e-5)


def test_ends_are_approached_from_within(sample):
    X = count_cooccurrence(sample).matrix
    values = np.linalg.eigvalsh(X.toarray().astype(float))
    smallest, largest = ends_of(X)
    assert largest == pytest.approx(values[-1], rel=1e-4)
    assert largest <= values[-1] * (1 + 1e-6)
    assert values[0] * (1 + 1e-6) <= smallest <= 0.5 * values[0]


@pytest.mark.parametrize("copies", [10, 200])
def test_a_matrix_of_few_different_eigenvalues(copies):
    """Of copies of a pair: nothing is left after the first pass but rounding errors."""
    pair = sp.csr_array([[0, 3], [3, 0]])
    ends = ends_of(sp.block_diag([pair] * copies, format="csr"))
    assert ends == pytest.approx((-3, 3), rel=1e-5)


def test_columns_that_depend_on_others_are_left_out():
    columns_NK = torch.tensor([[1.0, 2, 0], [0, 0, 0], [1, 2, 1]]).double()
    basis_NK = orthonormal(columns_NK)
    torch.testing.assert_close(basis_NK.T @ basis_NK, torch.eye(2).double())
