import pytest
import torch

from recsys.sessions import SessionNetwork
from recsys.sessions.objective import Objective
from recsys.sessions.sampled_loss import _losses, sampled_cross_entropy
from recsys.sessions.seen import Seen

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
    before = seen and Seen(
        torch.tensor([seen]).repeat(60, 1),
        torch.full((60, 1), seen[0]),
        torch.arange(60),
        torch.zeros(60, dtype=torch.int64),
    )
    possible = [item for item in range(N_ITEMS) if item not in (seen or [])]
    total = torch.zeros(60)
    for _ in range(2000):
        targets = popularity.multinomial(60, replacement=True)
        targets[0] = 5
        losses = _losses(expected, vectors, bias, targets, popularity.log(), 20, before)
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


def kept_for_backward(tiny, n_items):
    """Bytes that a step of the sampled softmax keeps, parameters aside, and the largest tensor."""
    config = tiny.model_copy(update={"loss": "sampled", "n_negatives": 64})
    network = SessionNetwork(n_items, config).train()
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    items = torch.arange(40).reshape(4, 10)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = Objective(network, config)(items, items[:, :1].clone())
    loss.backward()
    return sum(kept.values()), max(kept.values())


def test_what_a_step_keeps_in_memory_does_not_grow_with_the_catalogue(tiny):
    few, _ = kept_for_backward(tiny, 1_000)
    many, largest = kept_for_backward(tiny, 200_000)
    assert many < 1.2 * few
    assert largest < 200_000
