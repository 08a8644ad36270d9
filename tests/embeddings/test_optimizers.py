import pytest
import torch

from recsys.embeddings.optimizers import ScaledSGD


def parameter(gradient):
    w_ND = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    w_ND.grad = torch.tensor(gradient)
    return w_ND


GRADIENT = [[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]]


def test_a_step_goes_along_the_gradient_times_the_inverse_of_the_gram_matrix():
    w_ND = parameter(GRADIENT)
    before_ND = w_ND.detach().clone()
    ScaledSGD([w_ND], lr=0.5, damping=0.1).step()
    # Of the matrix [[1 2] [3 4] [5 6]], WᵀW = [[35 44] [44 56]]: damped by 0.1 · (35 + 56) / 2.
    gram_DD = torch.tensor([[35 + 4.55, 44.0], [44.0, 56 + 4.55]])
    expected_ND = before_ND - 0.5 * torch.tensor(GRADIENT) @ torch.linalg.inv(gram_DD)
    torch.testing.assert_close(w_ND.detach(), expected_ND)


def test_momentum_is_that_of_sgd_where_the_gram_matrix_is_the_identity():
    start_ND = torch.eye(3, dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    # So small that WᵀW stays the identity while W moves.
    # Of one sign, so that the velocity never points uphill.
    gradients = 1e-6 * torch.rand(5, 3, 3, dtype=torch.float64, generator=random)
    ours_ND, theirs_ND = (torch.nn.Parameter(start_ND.clone()) for _ in range(2))
    ours = ScaledSGD([ours_ND], lr=0.1, momentum=0.5, damping=0.0)
    theirs = torch.optim.SGD([theirs_ND], lr=0.1, momentum=0.5, nesterov=True)
    for optimizer, w_ND in ((ours, ours_ND), (theirs, theirs_ND)):
        for gradient_ND in gradients:
            w_ND.grad = gradient_ND.clone()
            optimizer.step()
    moved_ND, expected_ND = ours_ND.detach() - start_ND, theirs_ND.detach() - start_ND
    torch.testing.assert_close(moved_ND, expected_ND, rtol=1e-4, atol=1e-11)


def test_without_a_gradient_nothing_moves():
    w_ND = torch.nn.Parameter(torch.ones(3, 2))
    ScaledSGD([w_ND]).step()
    assert torch.equal(w_ND.detach(), torch.ones(3, 2))


def test_rows_without_gradient_stay_exactly_where_they_are():
    w_ND = parameter([[0.0, 0.0], [2.0, -1.0], [0.0, 3.0]])
    ScaledSGD([w_ND], momentum=0.5).step()
    assert w_ND[0].tolist() == [1.0, 2.0]
    assert w_ND[1].tolist() != [3.0, 4.0]


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="takes no closure"):
        ScaledSGD([parameter(GRADIENT)]).step(lambda: 0.0)


def test_a_velocity_that_points_uphill_is_forgotten():
    w_ND, fresh_ND = (parameter(GRADIENT) for _ in range(2))
    moved = ScaledSGD([w_ND], momentum=0.9)
    moved.step()
    fresh_ND.data = w_ND.detach().clone()
    for matrix in (w_ND, fresh_ND):
        matrix.grad = -torch.tensor(GRADIENT)
    moved.step()
    ScaledSGD([fresh_ND], momentum=0.9).step()
    torch.testing.assert_close(w_ND, fresh_ND)
