import pytest
import torch

from recsys.sessions.sampled_loss import _is_seen, _losses, sampled_cross_entropy

N_ITEMS = 30


def problem(n_predictions):
    torch.manual_seed(0)
    popularity = torch.rand(N_ITEMS).pow(3) + 0.01
    popularity /= popularity.sum()
    vectors, bias = torch.randn(N_ITEMS, 4), torch.randn(N_ITEMS)
    return torch.randn(n_predictions, 4), vectors, bias, popularity


@pytest.mark.parametrize("seen", [None, [3, 7, 7, 12]], ids=["all possible", "some seen"])
def test_the_normaliser_is_estimated_without_bias(seen):
    """The mean of Z = e^(loss + s_y) over many draws, against the sum over all possible items."""
    expected, vectors, bias, popularity = problem(60)
    seen_MS = None if seen is None else torch.tensor([seen]).repeat(60, 1)
    possible = [item for item in range(N_ITEMS) if item not in (seen or [])]
    total = torch.zeros(60)
    for _ in range(2000):
        targets = popularity.multinomial(60, replacement=True)
        targets[0] = 5
        losses = _losses(expected, vectors, bias, targets, popularity.log(), 20, seen_MS)
        total += (losses + (expected * vectors[targets]).sum(1) + bias[targets]).exp()
    exact = (expected[0] @ vectors[possible].T + bias[possible]).exp().sum()
    assert total[0] / 2000 == pytest.approx(float(exact), rel=0.05)


def test_with_many_draws_it_is_the_full_cross_entropy():
    expected, vectors, bias, popularity = problem(200)
    targets = popularity.multinomial(200, replacement=True)
    sampled = sampled_cross_entropy(expected, vectors, bias, targets, popularity.log(), 100_000)
    full = torch.nn.functional.cross_entropy(expected @ vectors.T + bias, targets)
    assert float(sampled) == pytest.approx(float(full), abs=0.05)


def test_it_looks_at_no_more_items_than_were_drawn():
    expected, vectors, bias, popularity = problem(8)
    vectors.requires_grad_()
    targets = popularity.multinomial(8, replacement=True)
    sampled_cross_entropy(expected, vectors, bias, targets, popularity.log(), 4).backward()
    touched = int((vectors.grad.abs().sum(1) > 0).sum())
    assert touched <= len(targets.unique()) + 4


def test_seen_items_are_found_among_the_drawn():
    drawn = torch.tensor([2, 5, 9])
    seen = torch.tensor([[5, 5, 1], [9, 2, 30], [0, 3, 4]])
    assert _is_seen(drawn, seen).tolist() == [
        [False, True, False],
        [True, False, True],
        [False, False, False],
    ]
