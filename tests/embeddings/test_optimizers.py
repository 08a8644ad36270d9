import pytest
import torch

from recsys.embeddings.optimizers import ScaledSGD


def parameter(gradient):
    w_ND = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    w_ND.grad = torch.tensor(gradient)
    return w_ND


GRADIENT = [[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]]


def test_step_is_preconditioned_with_the_inverse_gram_matrix():
    w_ND = parameter(GRADIENT)
    before_ND = w_ND.detach().clone()
    ScaledSGD([w_ND], lr=0.5, damping=0.0).step()
    # Of the matrix [[1 2] [3 4] [5 6]]:
    gram_DD = torch.tensor([[35.0, 44.0], [44.0, 56.0]])
    expected_ND = before_ND - 0.5 * torch.tensor(GRADIENT) @ torch.linalg.inv(gram_DD)
    torch.testing.assert_close(w_ND.detach(), expected_ND)


def test_divisor_respects_damping_and_lowest_eigenvalue():
    # s² of 36, 4 and 0, on average 40 / 3
    start_ND = torch.diag(torch.tensor([6.0, 2.0, 0.0]).double())
    for lowest, expected in ((0.0, [36, 4, 4]), (-1.0, [36, 4, 4]), (-10.0, [36, 7, 5])):
        w_ND = torch.nn.Parameter(start_ND.clone())
        w_ND.grad = torch.ones(3, 3).double()
        ScaledSGD([w_ND], lr=1.0, damping=0.3, lowest=lowest).step()
        divided_D = 1 / (start_ND - w_ND.detach())[0]
        torch.testing.assert_close(divided_D, torch.tensor(expected).double())


def test_momentum_equals_that_of_sgd_for_an_identity_gram_matrix():
    start_ND = torch.eye(3, dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    # So small that WᵀW stays the identity while W moves.
    # Of one sign, so that the velocity never points uphill.
    gradients = 1e-6 * torch.rand(5, 3, 3, dtype=torch.float64, generator=random)
    ours_ND, theirs_ND = (torch.nn.Parameter(start_ND.clone()) for _ in range(2))
    ours = ScaledSGD([ours_ND], lr=0.1, momentum=0.5, damping=0.0)
    theirs = torch.optim.SGD([theirs_ND], lr=0.1, momentum=0.5, nesterov=True)
    # t / (t + 3), and 0.5 at most; at zero itself torch would not keep a velocity
    for gathered, gradient_ND in zip((1e-12, 1 / 4, 2 / 5, 1 / 2, 1 / 2), gradients, strict=True):
        theirs.param_groups[0]["momentum"] = gathered
        for optimizer, w_ND in ((ours, ours_ND), (theirs, theirs_ND)):
            w_ND.grad = gradient_ND.clone()
            optimizer.step()
    moved_ND, expected_ND = ours_ND.detach() - start_ND, theirs_ND.detach() - start_ND
    torch.testing.assert_close(moved_ND, expected_ND, rtol=1e-4, atol=1e-11)


def test_parameters_without_gradient_do_not_move():
    w_ND = torch.nn.Parameter(torch.ones(3, 2))
    ScaledSGD([w_ND]).step()
    assert torch.equal(w_ND.detach(), torch.ones(3, 2))


def test_rows_with_zero_gradient_do_not_move():
    w_ND = parameter([[0.0, 0.0], [2.0, -1.0], [0.0, 3.0]])
    ScaledSGD([w_ND], momentum=0.5).step()
    assert w_ND[0].tolist() == [1.0, 2.0]
    assert w_ND[1].tolist() != [3.0, 4.0]


def test_closure_is_rejected():
    with pytest.raises(ValueError, match="takes no closure"):
        ScaledSGD([parameter(GRADIENT)]).step(lambda: 0.0)


def test_momentum_restarts_when_the_velocity_points_uphill():
    w_ND, fresh_ND = (parameter(GRADIENT) for _ in range(2))
    moved = ScaledSGD([w_ND], momentum=0.9)
    moved.step()
    fresh_ND.data = w_ND.detach().clone()
    for matrix in (w_ND, fresh_ND):
        matrix.grad = -torch.tensor(GRADIENT)
    moved.step()
    ScaledSGD([fresh_ND], momentum=0.9).step()
    torch.testing.assert_close(w_ND, fresh_ND)
