"""The spectrum and the optimum, compared with dense eigenvalues and brute force."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.sparse.linalg import LinearOperator, eigsh

from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.embeddings import spectral_optimum
from recsys.embeddings.objective import PairMatrix
from recsys.embeddings.optimum import KrylovSpace, find_optimum, orthonormal_basis
from recsys.errors import DataError

DEVICE = torch.device("cpu")


def bounds_of(dense):
    return KrylovSpace(PairMatrix(sp.csr_array(dense), DEVICE)).bounds


@given(
    arrays.arrays(np.int32, (7, 7), elements=st.integers(-9, 9))
    .map(lambda X: np.triu(X, 1) + np.triu(X, 1).T)
    .filter(np.any)
)
def test_bounds_of_a_small_matrix_are_exact(dense):
    values = np.linalg.eigvalsh(dense.astype(float))
    assert bounds_of(dense) == pytest.approx((values[0], values[-1]), rel=1e-5, abs=1e-5)


def test_bounds_lie_within_the_spectrum(sample):
    X = count_cooccurrence(sample).matrix
    values = np.linalg.eigvalsh(X.toarray().astype(float))
    smallest, largest = bounds_of(X)
    assert largest == pytest.approx(values[-1], rel=1e-4)
    assert largest <= values[-1] * (1 + 1e-6)
    assert values[0] * (1 + 1e-6) <= smallest <= 0.5 * values[0]


@pytest.mark.parametrize("copies", [10, 200])
def test_a_matrix_with_two_distinct_eigenvalues(copies):
    """Of copies of a pair: nothing is left after the first pass but rounding errors."""
    pair = sp.csr_array([[0, 3], [3, 0]])
    bounds = bounds_of(sp.block_diag([pair] * copies, format="csr"))
    assert bounds == pytest.approx((-3, 3), rel=1e-5)


def test_best_vectors_of_the_whole_space_are_the_optimum():
    dense = np.array([[0, 2, 1, 0], [2, 0, 1, 0], [1, 1, 0, 3], [0, 0, 3, 0]])
    matrix = PairMatrix(sp.csr_array(dense), DEVICE)
    found_ND = KrylovSpace(matrix).best_vectors(2, n_iter=500)
    best_ND = find_optimum(matrix, 2, tolerance=1e-12).vectors
    off = ~np.eye(4, dtype=bool)
    losses = [np.square((V @ V.T).numpy() - dense)[off].sum() for V in (found_ND, best_ND)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_more_passes_come_closer_to_the_optimum(sample):
    X = count_cooccurrence(sample).matrix
    matrix = PairMatrix(X, DEVICE)
    dense = torch.from_numpy(X.toarray().astype(float))

    def loss(passes):
        found_ND = KrylovSpace(matrix, 16, passes).best_vectors(8)
        return float((found_ND @ found_ND.T - dense).fill_diagonal_(0).square().sum())

    losses = [loss(passes) for passes in (1, 2, 3, 5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] <= 1.1 * find_optimum(matrix, 8).loss


def test_orthonormal_basis_drops_dependent_columns():
    columns_NK = torch.tensor([[1.0, 2, 0], [0, 0, 0], [1, 2, 1]]).double()
    basis_NK = orthonormal_basis(columns_NK)
    torch.testing.assert_close(basis_NK.T @ basis_NK, torch.eye(2).double())


CPU = Runtime(device="cpu", threads=1)


def symmetric(n, values):
    return (
        arrays.arrays(np.float64, (n, n), elements=values)
        .map(lambda X: np.triu(X, 1))
        .map(lambda X: X + X.T)
        .filter(np.any)
    )


def best_loss(dense, dim):
    return spectral_optimum(sp.csr_array(dense), dim, runtime=CPU).loss


def sum_over_pairs(V, dense):
    errors = V @ V.T - dense
    np.fill_diagonal(errors, 0)
    return float(np.square(errors).sum())


def brute_force(dense, dim, starts=5):
    """The least of many local minima, each found from a random start."""

    def loss(flat):
        V = flat.reshape(len(dense), dim)
        errors = V @ V.T - dense
        np.fill_diagonal(errors, 0)
        return np.square(errors).sum(), 4 * (errors @ V).ravel()

    random = np.random.default_rng(0)
    scale = np.sqrt(np.abs(dense).max())
    found = [
        scipy.optimize.minimize(loss, scale * random.normal(size=dense.size // len(dense) * dim),
                                jac=True, method="L-BFGS-B",
                                options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000}).fun
        for _ in range(starts)
    ]  # fmt: skip
    return min(found)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_no_random_start_reaches_a_lower_loss(dim, seed):
    random = np.random.default_rng(seed)
    groups = random.integers(0, 4, size=(7, 20)) > 2  # users × items
    dense = (groups @ groups.T.astype(int)).astype(float)
    np.fill_diagonal(dense, 0)
    # Some optima are at infinity and are never reached exactly.
    assert best_loss(dense, dim) <= brute_force(dense, dim) * (1 + 1e-3) + 1e-9


@pytest.mark.parametrize(
    ("dense", "dim", "expected"),
    [
        (1 - np.eye(3), 1, 0.0),  # v = 1 for all
        (np.kron(np.eye(2), 1 - np.eye(3)), 1, 6.0),  # one of two groups of three is fitted
        (np.kron(np.eye(2), 1 - np.eye(3)), 2, 0.0),
        (np.eye(4)[::-1], 2, 0.0),  # two pairs
        (np.eye(4)[::-1], 1, 2.0),  # one of two pairs: the other adds 1² twice
    ],
    ids=["triangle", "two-triangles-1", "two-triangles-2", "two-pairs-2", "two-pairs-1"],
)
def test_optimum_by_hand(dense, dim, expected):
    assert best_loss(dense, dim) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=15)
@given(dense=symmetric(6, st.integers(0, 9)), dim=st.integers(1, 5))
def test_reported_loss_is_that_of_the_vectors(dense, dim):
    best = spectral_optimum(sp.csr_array(dense), dim, runtime=CPU)
    assert best.vectors.shape == (6, dim)
    expected = sum_over_pairs(best.vectors.numpy(), dense)
    assert best.loss == pytest.approx(expected, rel=1e-5, abs=1e-6 * np.square(dense).sum())


def by_eigsh(X, dim):
    """Principal-axis iteration with exact eigenvectors: the slow way to the same fixed point."""
    diagonal, losses = np.zeros(X.shape[0]), []
    for _ in range(200):
        operator = LinearOperator(X.shape, lambda v, d=diagonal: X @ v.ravel() + d * v.ravel(),
                                  dtype=np.float64)  # fmt: skip
        values, basis = eigsh(operator, k=dim, which="LA", v0=np.ones(len(diagonal)))
        V = basis * np.sqrt(np.maximum(values, 0))
        diagonal = np.square(V).sum(axis=1)
        losses.append(sum_over_pairs(V, X.toarray()))
        if len(losses) > 1 and losses[-2] - losses[-1] < 1e-10 * losses[-1]:
            break
    return losses[-1]


@pytest.mark.parametrize("dim", [1, 4, 12])
def test_optimum_agrees_with_exact_eigenvectors(sample, dim):
    counts = count_cooccurrence(sample, min_rating=3.5)
    best = spectral_optimum(counts, dim, runtime=CPU, tolerance=1e-9)
    assert best.converged
    assert best.loss == pytest.approx(by_eigsh(counts.matrix.astype(float), dim), rel=1e-5)


def test_seeds_agree_and_are_reproducible(sample):
    counts = count_cooccurrence(sample, min_rating=3.5)
    first, again, other = (
        spectral_optimum(counts, 5, runtime=CPU.model_copy(update={"seed": seed}))
        for seed in (0, 0, 1)
    )
    assert first.vectors.numpy().tobytes() == again.vectors.numpy().tobytes()
    assert other.loss == pytest.approx(first.loss, rel=1e-5)


def test_items_without_pairs_have_zero_vectors():
    dense = np.zeros((6, 6))
    dense[1, 2] = dense[2, 1] = 3
    best = spectral_optimum(sp.csr_array(dense), 2, runtime=CPU)
    assert best.loss == pytest.approx(0, abs=1e-6)
    assert np.abs(best.vectors.numpy()[[0, 3, 4, 5]]).max() < 1e-6


def test_too_few_iterations_do_not_converge(sample):
    matrix = PairMatrix(count_cooccurrence(sample).matrix, CPU.torch_device())
    assert not find_optimum(matrix, 5, max_iter=2).converged


def test_too_many_dimensions_are_rejected():
    with pytest.raises(DataError, match="only 3 items for embeddings of dim 3: lower dim"):
        best_loss(1 - np.eye(3), 3)
