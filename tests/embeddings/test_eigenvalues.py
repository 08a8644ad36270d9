"""The ends of the spectrum against all of it."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.cooccurrence import count_cooccurrence
from recsys.embeddings.objective import PairMatrix
from recsys.embeddings.optimum import KrylovSpace, find_optimum, orthonormal_basis

CPU = torch.device("cpu")


def bounds_of(dense):
    return KrylovSpace(PairMatrix(sp.csr_array(dense), CPU)).bounds


@given(
    arrays.arrays(np.int32, (7, 7), elements=st.integers(-9, 9))
    .map(lambda X: np.triu(X, 1) + np.triu(X, 1).T)
    .filter(np.any)
)
def test_a_small_matrix_has_exact_ends(dense):
    values = np.linalg.eigvalsh(dense.astype(float))
    assert bounds_of(dense) == pytest.approx((values[0], values[-1]), rel=1e-5, abs=1e-5)


def test_ends_are_approached_from_within(sample):
    X = count_cooccurrence(sample).matrix
    values = np.linalg.eigvalsh(X.toarray().astype(float))
    smallest, largest = bounds_of(X)
    assert largest == pytest.approx(values[-1], rel=1e-4)
    assert largest <= values[-1] * (1 + 1e-6)
    assert values[0] * (1 + 1e-6) <= smallest <= 0.5 * values[0]


@pytest.mark.parametrize("copies", [10, 200])
def test_a_matrix_of_few_different_eigenvalues(copies):
    """Of copies of a pair: nothing is left after the first pass but rounding errors."""
    pair = sp.csr_array([[0, 3], [3, 0]])
    bounds = bounds_of(sp.block_diag([pair] * copies, format="csr"))
    assert bounds == pytest.approx((-3, 3), rel=1e-5)


def test_where_the_space_is_all_the_best_vectors_are_the_optimum():
    dense = np.array([[0, 2, 1, 0], [2, 0, 1, 0], [1, 1, 0, 3], [0, 0, 3, 0]])
    matrix = PairMatrix(sp.csr_array(dense), CPU)
    found_ND = KrylovSpace(matrix).best_vectors(2, n_iter=500)
    best_ND = find_optimum(matrix, 2, tolerance=1e-12).vectors
    off = ~np.eye(4, dtype=bool)
    losses = [np.square((V @ V.T).numpy() - dense)[off].sum() for V in (found_ND, best_ND)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_the_more_products_the_nearer_the_optimum(sample):
    X = count_cooccurrence(sample).matrix
    matrix = PairMatrix(X, CPU)
    dense = torch.from_numpy(X.toarray().astype(float))

    def loss(passes):
        found_ND = KrylovSpace(matrix, 16, passes).best_vectors(8)
        return float((found_ND @ found_ND.T - dense).fill_diagonal_(0).square().sum())

    losses = [loss(passes) for passes in (1, 2, 3, 5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] <= 1.1 * find_optimum(matrix, 8).loss


def test_columns_that_depend_on_others_are_left_out():
    columns_NK = torch.tensor([[1.0, 2, 0], [0, 0, 0], [1, 2, 1]]).double()
    basis_NK = orthonormal_basis(columns_NK)
    torch.testing.assert_close(basis_NK.T @ basis_NK, torch.eye(2).double())
