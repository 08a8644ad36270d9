import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from recsys.sessions import loss as loss_module
from recsys.sessions.loss import tied_cross_entropy
from recsys.sessions.seen import Seen


def problem(n_predictions, n_items=7, dim=4, dtype=torch.float64):
    torch.manual_seed(n_predictions)
    tensors = (
        torch.randn(n_predictions, dim, dtype=dtype),
        torch.randn(n_items, dim, dtype=dtype),
        torch.randn(n_items, dtype=dtype),
    )
    return *(x.requires_grad_() for x in tensors), torch.randint(n_items, (n_predictions,))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("n_predictions", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_it_equals_the_plain_cross_entropy(monkeypatch, n_predictions, rows, label_smoothing):
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 4 * 7 * rows)
    expected, vectors, bias, targets = problem(n_predictions)
    loss = tied_cross_entropy(expected, vectors, bias, targets, label_smoothing)
    plain = cross_entropy(expected @ vectors.T + bias, targets, label_smoothing=label_smoothing)
    torch.testing.assert_close(loss, plain)
    inputs = (expected, vectors, bias)
    gradients = torch.autograd.grad(3.0 * loss, inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(3.0 * plain, inputs))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [2, 100])
def test_seen_items_are_out_of_the_running(monkeypatch, rows, label_smoothing):
    """Against a softmax over the possible items of each row alone."""
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 4 * 7 * rows)
    expected, vectors, bias, _ = problem(4)
    seen = [[0], [1, 3], [2, 5, 6], [0, 1, 2]]
    targets = torch.tensor([3, 0, 4, 6])
    padded = torch.tensor([(row * 3)[:3] for row in seen])  # a seen item may stand there twice
    before = Seen(padded[:, 1:], padded[:, :1], torch.arange(4), torch.zeros(4, dtype=torch.int64))
    loss = tied_cross_entropy(expected, vectors, bias, targets, label_smoothing, before)
    plain = torch.zeros((), dtype=torch.float64)
    for row, target in enumerate(targets.tolist()):
        possible = [item for item in range(7) if item not in seen[row]]
        logits = vectors[possible] @ expected[row] + bias[possible]
        own = torch.tensor(possible.index(target))
        plain = plain + cross_entropy(logits, own, label_smoothing=label_smoothing) / 4
    torch.testing.assert_close(loss, plain)
    inputs = (expected, vectors, bias)
    gradients = torch.autograd.grad(loss, inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(plain, inputs))


def test_its_gradient_is_that_of_finite_differences():
    expected, vectors, bias, targets = problem(3)
    assert torch.autograd.gradcheck(
        lambda *inputs: tied_cross_entropy(*inputs, targets, 0.1), (expected, vectors, bias)
    )


def test_large_logits_do_not_overflow():
    expected, vectors, bias, targets = problem(4, dtype=torch.float32)
    with torch.no_grad():
        vectors *= 1e4
    loss = tied_cross_entropy(expected, vectors, bias, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(vectors.grad).all()


def test_in_half_precision_it_is_close():
    expected, vectors, bias, targets = problem(50, dtype=torch.float32)
    exact = tied_cross_entropy(expected, vectors, bias, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = tied_cross_entropy(expected, vectors, bias, targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0.02)


class Largest(TorchDispatchMode):
    """Notes how many elements the largest tensor has that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = result if isinstance(result, (tuple, list)) else [result]
        sizes = [tensor.numel() for tensor in given if isinstance(tensor, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("with_seen", [False, True], ids=["all possible", "some seen"])
def test_all_the_logits_are_never_held_at_once(monkeypatch, with_seen):
    n_predictions, n_items, rows = 300, 200, 5
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 4 * n_items * rows)
    expected, vectors, bias, targets = problem(n_predictions, n_items, dtype=torch.float32)
    one = torch.zeros(n_predictions, 1, dtype=torch.int64)
    row = torch.arange(n_predictions)
    seen = Seen(one, one, row, one[:, 0]) if with_seen else None
    targets = targets.clamp(min=1)
    with Largest() as largest:
        tied_cross_entropy(expected, vectors, bias, targets, 0.1, seen).backward()
    assert rows * n_items <= largest.elements < 2 * n_predictions * 4
    with Largest() as largest:
        cross_entropy(expected @ vectors.T + bias, targets).backward()
    assert largest.elements >= n_predictions * n_items
