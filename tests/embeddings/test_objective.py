"""The matrix and the objective, compared with dense computation."""

import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.embeddings.config import PairWeights
from recsys.embeddings.objective import PairMatrix, PairObjective
from recsys.embeddings.optimum import KrylovSpace
from recsys.errors import ConfigError, DataError

CPU = torch.device("cpu")
RING = sp.csr_array(np.roll(np.eye(5), 1, axis=0) + np.roll(np.eye(5), -1, axis=0))


def test_product_has_the_dtype_of_w():
    w_ND = torch.arange(10.0).reshape(5, 2)
    for dtype in (torch.float32, torch.float64):
        product_ND = PairMatrix(RING, CPU).multiply(w_ND.to(dtype))
        assert product_ND.dtype == dtype
        assert product_ND.tolist() == (RING @ w_ND.numpy()).tolist()


def with_entry(row, column, value):
    changed = RING.tolil()
    changed[row, column] = value
    return sp.csr_array(changed)


FAULTS = {
    "diagonal": (with_entry(3, 3, 2.0), r"on its diagonal.*X\.setdiag\(0\)"),
    "asymmetric": (with_entry(0, 3, 1.0), r"not symmetric: fit \(X \+ X\.T\) / 2"),
    "infinite": (with_entry(0, 1, np.inf), "not finite"),
    "empty": (sp.csr_array((5, 5)), "nothing to fit"),
    "wide": (RING[:3], "5 columns but 3 rows"),
    "gap": ([(0, RING[:2]), (3, RING[3:])], "starts at row 3, expected row 2"),
    "ragged": ([(0, RING[:2]), (2, RING[2:, :4])], "at row 2 has 4 columns, the first 5"),
    "diagonal-in-a-block": ([(0, RING[:2]), (2, with_entry(3, 3, 2.0)[2:])], "on its diagonal"),
    "iterator": (iter([(0, RING)]), "can be read only once"),
}


@pytest.mark.parametrize(("source", "message"), FAULTS.values(), ids=FAULTS)
def test_invalid_matrices_are_rejected(source, message):
    with pytest.raises(DataError, match=message):
        PairMatrix(source, CPU)


def test_pair_weights_reject_negative_values():
    with pytest.raises(DataError, match="has the value -1"):
        PairMatrix(-RING, CPU, PairWeights())


def test_row_blocks_cannot_be_sampled():
    with pytest.raises(ConfigError, match="remove batch_rows"):
        PairMatrix([(0, RING)], CPU).sample(np.array([1]))


def test_input_matrix_is_not_modified():
    before = RING.copy()
    PairMatrix(RING, CPU)
    assert (before != RING).nnz == 0


N, D = 6, 3

# Symmetric counts with zero diagonal, of which at least one is not zero.
counts = arrays.arrays(np.int32, (N, N), elements=st.integers(0, 50)).map(
    lambda X: np.triu(X, 1) + np.triu(X, 1).T + np.eye(N, dtype=np.int32)[::-1]
)
vectors = arrays.arrays(np.float64, (N, D), elements=st.floats(-2, 2, width=32))


def objective_of_matrix(matrix):
    return PairObjective(matrix, KrylovSpace(matrix).bounds)


def objective_of(dense, weights=None):
    return objective_of_matrix(PairMatrix(sp.csr_array(dense), CPU, weights))


def in_blocks(dense, starts):
    """The rows of a matrix in blocks that begin at the given rows."""
    matrix = sp.csr_array(dense)
    stops = [*starts[1:], len(dense)]
    return [(first, matrix[first:stop]) for first, stop in zip(starts, stops, strict=True)]


def sum_over_pairs(w_ND, dense):
    """Σ_{i≠j} (w_iᵀw_j − x_ij)², with every pair written out."""
    errors_NN = (w_ND @ w_ND.T - dense) * (1 - torch.eye(len(w_ND), dtype=w_ND.dtype))
    return errors_NN.square().sum()


@given(dense=counts, w=vectors)
def test_loss_equals_the_dense_loss(dense, w):
    objective, w_ND = objective_of(dense), torch.from_numpy(w)
    scaled = torch.from_numpy(dense / objective.top_eigenvalue)
    expected = sum_over_pairs(w_ND, scaled) / scaled.square().sum()
    assert objective.loss(w_ND).item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-12)


@given(dense=counts, w=vectors)
def test_gradient_equals_the_dense_gradient(dense, w):
    objective = objective_of(dense)
    scaled = torch.from_numpy(dense / objective.top_eigenvalue)
    fast_ND, slow_ND = (torch.from_numpy(w).requires_grad_() for _ in range(2))
    objective.loss(fast_ND).backward()
    (sum_over_pairs(slow_ND, scaled) / scaled.square().sum()).backward()
    torch.testing.assert_close(fast_ND.grad, slow_ND.grad, rtol=1e-6, atol=1e-6)


def test_gradient_matches_finite_differences():
    dense = np.array([[0, 3, 1, 0], [3, 0, 2, 0], [1, 2, 0, 5], [0, 0, 5, 0]])
    w_ND = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        objective_of(dense).loss, w_ND.requires_grad_(), eps=1e-5, atol=1e-6, rtol=1e-6
    )


def test_float32_gives_the_same_loss(sample):
    dense = sample.user_item_matrix().T @ sample.user_item_matrix()
    dense.setdiag(0)
    w_ND = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) / 10
    single = objective_of(dense).loss(w_ND)
    assert single.dtype == torch.float64
    assert single.item() == pytest.approx(objective_of(dense).loss(w_ND.double()).item(), rel=1e-6)


def test_loss_by_hand():
    # X of three items that all co-occur c times has the largest eigenvalue 2c; X / 2c is 1/2.
    objective = objective_of(7 * (1 - np.eye(3, dtype=np.int32)))
    assert objective.top_eigenvalue == pytest.approx(2 * 7, rel=1e-4)
    assert objective.sum_of_squares == 6 * 7**2
    assert objective.scaled_sum_of_squares == pytest.approx(6 * (1 / 2) ** 2, rel=1e-3)
    w_ND = torch.tensor([[1.0, 0], [0, 1], [1, 0]], dtype=torch.float64)
    # Products: w_0ᵀw_2 = 1, the other two 0; each pair counts twice.
    w_ND /= math.sqrt(objective.top_eigenvalue / (2 * 7))
    by_hand = 2 * ((1 - 1 / 2) ** 2 + (0 - 1 / 2) ** 2 + (0 - 1 / 2) ** 2) / (6 * (1 / 2) ** 2)
    assert objective.loss(w_ND).item() == pytest.approx(by_hand)


def test_loss_is_one_at_zero_and_zero_at_a_perfect_fit():
    objective = objective_of(1 - np.eye(3, dtype=np.int32))
    w_ND = torch.full((3, 1), math.sqrt(1 / objective.top_eigenvalue), dtype=torch.float64)
    assert objective.loss(torch.zeros_like(w_ND)).item() == pytest.approx(1.0)
    assert objective.loss(w_ND).item() == pytest.approx(0.0, abs=1e-12)


@given(dense=counts)
def test_top_eigenvalue_estimate(dense):
    largest = np.linalg.eigvalsh(dense)[-1]
    assert 0.9 * largest <= objective_of(dense).top_eigenvalue <= largest * (1 + 1e-6)


def test_has_pairs():
    dense = np.zeros((4, 4), dtype=np.int32)
    dense[0, 2] = dense[2, 0] = 1
    assert objective_of(dense).matrix.has_pairs.tolist() == [True, False, True, False]


@given(dense=counts, w=vectors)
def test_sampled_loss_is_unbiased(dense, w):
    """The estimates of the loss and of its gradient average to the loss and its gradient."""
    objective = objective_of(dense)
    w_ND = torch.from_numpy(w).requires_grad_()
    exact = objective.loss(w_ND)
    (exact_ND,) = torch.autograd.grad(exact, w_ND)
    pairs = [np.array(rows) for rows in itertools.combinations(range(N), 2)]
    estimates = [objective.sampled_loss(w_ND, rows) for rows in pairs]
    gradients_ND = [torch.autograd.grad(estimate, w_ND)[0] for estimate in estimates]
    torch.testing.assert_close(torch.stack(estimates).mean(), exact.detach())
    torch.testing.assert_close(torch.stack(gradients_ND).mean(0), exact_ND)


def test_only_sampled_rows_have_a_gradient():
    objective = objective_of(1 - np.eye(4))
    w_ND = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    objective.sampled_loss(w_ND, np.array([2])).backward()
    assert w_ND.grad.any(dim=1).tolist() == [False, False, True, False]


def weighted_sum_over_pairs(w_ND, dense, targets, weights):
    f_NN = (torch.from_numpy(dense / weights.x_max).clamp(max=1)) ** weights.alpha
    f_NN[dense == 0] = weights.zero_weight
    errors_NN = (w_ND @ w_ND.T - targets) * (1 - torch.eye(len(w_ND), dtype=w_ND.dtype))
    return (f_NN.float().double() * errors_NN.square()).sum()


WEIGHTS = {
    "glove": PairWeights(x_max=20.0),
    "with-zeros": PairWeights(x_max=20.0, alpha=0.5, zero_weight=0.3),
    "all-alike": PairWeights(alpha=0.0, zero_weight=1.0),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@given(dense=counts, w=vectors)
def test_weighted_loss_and_gradient_equal_the_dense_ones(weights, dense, w):
    objective = objective_of(dense, weights)
    fast_ND, slow_ND = (torch.from_numpy(w).requires_grad_() for _ in range(2))
    targets = torch.from_numpy(dense / objective.top_eigenvalue)
    slow = weighted_sum_over_pairs(slow_ND, dense, targets, weights)
    slow = slow / objective.scaled_sum_of_squares
    fast = objective.loss(fast_ND)
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-9)
    fast.backward()
    slow.backward()
    torch.testing.assert_close(fast_ND.grad, slow_ND.grad, rtol=1e-6, atol=1e-6)


def test_weighted_gradient_matches_finite_differences():
    dense = np.array([[0, 3, 1, 0], [3, 0, 2, 0], [1, 2, 0, 5], [0, 0, 5, 0]])
    w_ND = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = objective_of(dense, PairWeights(x_max=4.0, zero_weight=0.2)).loss
    assert torch.autograd.gradcheck(loss, w_ND.requires_grad_(), eps=1e-5, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("weights", [None, PairWeights(x_max=20.0, zero_weight=0.3)])
@given(dense=counts, w=vectors, starts=st.sets(st.integers(1, N - 1)))
def test_row_blocks_give_the_same_objective(weights, dense, w, starts):
    whole = objective_of(dense, weights)
    blocks = in_blocks(dense, [0, *sorted(starts)])
    by_blocks = objective_of_matrix(PairMatrix(blocks, CPU, weights))
    assert by_blocks.sum_of_squares == pytest.approx(whole.sum_of_squares)
    assert by_blocks.top_eigenvalue == pytest.approx(whole.top_eigenvalue)
    gradients_ND = []
    for objective in (whole, by_blocks):
        w_ND = torch.from_numpy(w).requires_grad_()
        loss = objective.loss(w_ND)
        loss.backward()
        gradients_ND.append((loss.detach(), w_ND.grad))
    torch.testing.assert_close(*gradients_ND)
