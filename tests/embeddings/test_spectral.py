"""The optimum against brute force, against `eigsh`, and against other ways to get there."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.sparse.linalg import LinearOperator, eigsh

from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.embeddings import spectral_optimum
from recsys.embeddings.objective import PairMatrix
from recsys.embeddings.optimum import find_optimum
from recsys.errors import DataError

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
def test_no_random_start_ends_lower(dim, seed):
    random = np.random.default_rng(seed)
    groups = random.integers(0, 4, size=(7, 20)) > 2  # who liked what
    dense = (groups @ groups.T.astype(int)).astype(float)
    np.fill_diagonal(dense, 0)
    # Some optima lie at infinity: nobody reaches them to the last digit.
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
def test_by_hand(dense, dim, expected):
    assert best_loss(dense, dim) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=15)
@given(dense=symmetric(6, st.integers(0, 9)), dim=st.integers(1, 5))
def test_the_loss_told_is_that_of_the_vectors(dense, dim):
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
def test_exact_eigenvectors_lead_to_the_same_place(sample, dim):
    counts = count_cooccurrence(sample, min_rating=3.5)
    best = spectral_optimum(counts, dim, runtime=CPU, tolerance=1e-9)
    assert best.converged
    assert best.loss == pytest.approx(by_eigsh(counts.matrix.astype(float), dim), rel=1e-5)


def test_seeds_agree_and_one_repeats_itself(sample):
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


def test_too_few_rounds_are_told(sample):
    matrix = PairMatrix(count_cooccurrence(sample).matrix, CPU.torch_device())
    assert not find_optimum(matrix, 5, max_iter=2).converged


def test_as_many_dimensions_as_items_are_refused():
    with pytest.raises(DataError, match="only 3 items for embeddings of dim 3: lower dim"):
        best_loss(1 - np.eye(3), 3)
