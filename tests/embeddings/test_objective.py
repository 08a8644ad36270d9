import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.embeddings.objective import PairObjective

CPU = torch.device("cpu")
N, D = 6, 3

# Symmetric counts with zero diagonal, of which at least one is not zero.
counts = arrays.arrays(np.int32, (N, N), elements=st.integers(0, 50)).map(
    lambda X: np.triu(X, 1) + np.triu(X, 1).T + np.eye(N, dtype=np.int32)[::-1]
)
vectors = arrays.arrays(np.float64, (N, D), elements=st.floats(-2, 2, width=32))


def objective_of(dense, dtype=torch.float64):
    return PairObjective(sp.csr_array(dense), CPU, dtype)


def sum_over_pairs(w_ND, dense):
    """Σ_{i≠j} (w_iᵀw_j − x_ij)², with every pair written out."""
    errors_NN = (w_ND @ w_ND.T - dense) * (1 - torch.eye(len(w_ND), dtype=w_ND.dtype))
    return errors_NN.square().sum()


@given(dense=counts, w=vectors)
def test_the_loss_is_that_of_the_sum_over_all_pairs(dense, w):
    objective, w_ND = objective_of(dense), torch.from_numpy(w)
    scaled = torch.from_numpy(dense / objective.top_eigenvalue)
    expected = sum_over_pairs(w_ND, scaled) / scaled.square().sum()
    assert objective.loss(w_ND).item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-12)


@given(dense=counts, w=vectors)
def test_the_gradient_is_that_of_the_sum_over_all_pairs(dense, w):
    objective = objective_of(dense)
    scaled = torch.from_numpy(dense / objective.top_eigenvalue)
    fast_ND, slow_ND = (torch.from_numpy(w).requires_grad_() for _ in range(2))
    objective.loss(fast_ND).backward()
    (sum_over_pairs(slow_ND, scaled) / scaled.square().sum()).backward()
    torch.testing.assert_close(fast_ND.grad, slow_ND.grad, rtol=1e-6, atol=1e-9)


def test_the_gradient_is_that_of_finite_differences():
    dense = np.array([[0, 3, 1, 0], [3, 0, 2, 0], [1, 2, 0, 5], [0, 0, 5, 0]])
    w_ND = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(objective_of(dense).loss, w_ND.requires_grad_())


def test_single_precision_gives_the_same_loss(sample):
    dense = sample.user_item_matrix().T @ sample.user_item_matrix()
    dense.setdiag(0)
    w_ND = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) / 10
    single = objective_of(dense, torch.float32).loss(w_ND)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(objective_of(dense).loss(w_ND.double()).item(), rel=1e-5)


def test_by_hand():
    # X of three items that all co-occur c times has the largest eigenvalue 2c; X / 2c is 1/2.
    objective = objective_of(7 * (1 - np.eye(3, dtype=np.int32)))
    assert objective.top_eigenvalue == pytest.approx(2 * 7)
    assert objective.sum_of_squares == 6 * 7**2
    assert objective.scaled_sum_of_squares == pytest.approx(6 * (1 / 2) ** 2)
    w_ND = torch.tensor([[1.0, 0], [0, 1], [1, 0]], dtype=torch.float64)
    # Products: w_0ᵀw_2 = 1, the other two 0; each pair counts twice.
    by_hand = 2 * ((1 - 1 / 2) ** 2 + (0 - 1 / 2) ** 2 + (0 - 1 / 2) ** 2) / (6 * (1 / 2) ** 2)
    assert objective.loss(w_ND).item() == pytest.approx(by_hand)


def test_the_loss_is_one_at_zero_and_zero_at_a_perfect_fit():
    objective = objective_of(1 - np.eye(3, dtype=np.int32))
    w_ND = torch.full((3, 1), math.sqrt(1 / 2), dtype=torch.float64)
    assert objective.loss(torch.zeros_like(w_ND)).item() == 1.0
    assert objective.loss(w_ND).item() == pytest.approx(0.0, abs=1e-12)


@given(dense=counts)
def test_the_scale_is_at_most_the_largest_eigenvalue(dense):
    largest = np.linalg.eigvalsh(dense)[-1]
    assert 0.9 * largest <= objective_of(dense).top_eigenvalue <= largest * (1 + 1e-9)


def test_items_without_pairs_are_known():
    dense = np.zeros((4, 4), dtype=np.int32)
    dense[0, 2] = dense[2, 0] = 1
    assert objective_of(dense).has_pairs.tolist() == [True, False, True, False]
