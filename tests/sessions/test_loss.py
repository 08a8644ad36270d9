import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from recsys.sessions import SessionNetwork
from recsys.sessions import loss as loss_module
from recsys.sessions.loss import (
    NextItemLoss,
    SeenItems,
    full_cross_entropy,
    sampled_cross_entropy,
)


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
def test_full_loss_equals_torch_cross_entropy(monkeypatch, n_predictions, rows, label_smoothing):
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 4 * 7 * rows)
    expected, vectors, bias, targets = problem(n_predictions)
    loss = full_cross_entropy(expected, vectors, bias, targets, label_smoothing)
    plain = cross_entropy(expected @ vectors.T + bias, targets, label_smoothing=label_smoothing)
    torch.testing.assert_close(loss, plain)
    inputs = (expected, vectors, bias)
    gradients = torch.autograd.grad(3.0 * loss, inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(3.0 * plain, inputs))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [2, 100])
def test_seen_items_are_excluded(monkeypatch, rows, label_smoothing):
    """Compares with a softmax over the allowed items of each row."""
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 4 * 7 * rows)
    expected, vectors, bias, _ = problem(4)
    seen = [[0], [1, 3], [2, 5, 6], [0, 1, 2]]
    targets = torch.tensor([3, 0, 4, 6])
    padded = torch.tensor([(row * 3)[:3] for row in seen])  # seen items may repeat
    before = SeenItems(
        padded[:, 1:], padded[:, :1], torch.arange(4), torch.zeros(4, dtype=torch.int64)
    )
    loss = full_cross_entropy(expected, vectors, bias, targets, label_smoothing, before)
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


def test_gradient_equals_finite_differences():
    expected, vectors, bias, targets = problem(3)
    assert torch.autograd.gradcheck(
        lambda *inputs: full_cross_entropy(*inputs, targets, 0.1), (expected, vectors, bias)
    )


def test_large_logits_do_not_overflow():
    expected, vectors, bias, targets = problem(4, dtype=torch.float32)
    with torch.no_grad():
        vectors *= 1e4
    loss = full_cross_entropy(expected, vectors, bias, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(vectors.grad).all()


def test_bfloat16_is_close():
    expected, vectors, bias, targets = problem(50, dtype=torch.float32)
    exact = full_cross_entropy(expected, vectors, bias, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = full_cross_entropy(expected, vectors, bias, targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0.02)


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = result if isinstance(result, (tuple, list)) else [result]
        sizes = [tensor.numel() for tensor in given if isinstance(tensor, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("with_seen", [False, True], ids=["none seen", "some seen"])
def test_logits_are_never_stored_at_once(monkeypatch, with_seen):
    n_predictions, n_items, rows = 300, 200, 5
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 4 * n_items * rows)
    expected, vectors, bias, targets = problem(n_predictions, n_items, dtype=torch.float32)
    zeros = torch.zeros(3, n_predictions // 3, dtype=torch.int64)
    row, step = torch.ones_like(zeros).nonzero(as_tuple=True)
    seen = SeenItems(zeros, zeros, row, step) if with_seen else None
    targets = targets.clamp(min=1)
    with Largest() as largest:
        full_cross_entropy(expected, vectors, bias, targets, 0.1, seen).backward()
    assert rows * n_items <= largest.elements < 2 * n_predictions * 4
    with Largest() as largest:
        cross_entropy(expected @ vectors.T + bias, targets).backward()
    assert largest.elements >= n_predictions * n_items


SEEN_N_ITEMS = 20
SEEN = SeenItems(
    context=torch.tensor([[9, 9], [3, 8], [15, 0]]),
    inputs=torch.tensor([[9, 1, 4], [5, 6, SEEN_N_ITEMS], [2, 7, 11]]),
    row=torch.tensor([0, 0, 0, 1, 1, 2]),
    step=torch.tensor([0, 1, 2, 0, 1, 2]),
)
"""Three chunks: the second ends a step early, and only the last step of the third counts."""

EXPECTED = [{9}, {9, 1}, {9, 1, 4}, {3, 8, 5}, {3, 8, 5, 6}, {15, 0, 2, 7, 11}]


@pytest.mark.parametrize("rows", [1, 2, 4, 6])
def test_the_seen_items_are_those_of_context_and_inputs(rows):
    found = []
    for start in range(0, 6, rows):
        found += [{*row} for row in SEEN.items(slice(start, start + rows)).tolist()]
    assert found == EXPECTED
    assert SEEN.counts().tolist() == [*map(len, EXPECTED)]


def test_seen_items_among_the_drawn():
    drawn = torch.tensor([1, 5, 8, 9, 15, 19])
    among = SEEN.among(drawn)
    assert [{*drawn[row].tolist()} for row in among] == [s & {*drawn.tolist()} for s in EXPECTED]


N_ITEMS = 30


@pytest.mark.parametrize("n_predictions", [1, 7, 30])
def test_a_second_thread_does_not_change_the_result(monkeypatch, n_predictions):
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 4 * 4 * N_ITEMS)  # four predictions
    torch.manual_seed(0)
    targets = torch.randint(N_ITEMS, (n_predictions,))
    inputs = [torch.randn(n_predictions, 4), torch.randn(N_ITEMS, 4), torch.randn(N_ITEMS)]

    def gradients(helper):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        loss = full_cross_entropy(*leaves, targets, 0.1, None, helper)
        return loss, *torch.autograd.grad(loss, leaves)

    names = []
    compute = loss_module._sum_chunks

    def noted(*args):
        names.append(threading.current_thread().name)
        return compute(*args)

    monkeypatch.setattr(loss_module, "_sum_chunks", noted)
    with ThreadPoolExecutor(1, "helper") as helper:
        for found, expected in zip(gradients(helper), gradients(None), strict=True):
            assert torch.equal(found, expected)
    assert ("helper_0" in names) == (n_predictions > 4)


def sampled_problem(n_predictions):
    torch.manual_seed(0)
    popularity = torch.rand(N_ITEMS).pow(3) + 0.01
    popularity /= popularity.sum()
    vectors, bias = torch.randn(N_ITEMS, 4), torch.randn(N_ITEMS)
    return torch.randn(n_predictions, 4), vectors, bias, popularity


def draw(targets, n_negatives):
    """Half of the items uniformly, half from the targets."""
    uniform = torch.randint(N_ITEMS, (n_negatives - n_negatives // 2,))
    return torch.cat([uniform, targets[torch.randint(len(targets), (n_negatives // 2,))]])


@pytest.mark.parametrize("seen", [None, [3, 7, 7, 12]], ids=["none seen", "some seen"])
def test_the_sampled_normalizer_is_unbiased(seen):
    """The mean of Z = e^(loss + s_y) over many draws, against the sum over all possible items."""
    expected, vectors, bias, popularity = sampled_problem(60)
    before = seen and SeenItems(
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
        losses = sampled_cross_entropy(
            expected, vectors, bias, targets, popularity.log(), draw(targets, 20), before
        )
        total += (losses + (expected * vectors[targets]).sum(1) + bias[targets]).exp()
    exact = (expected[0] @ vectors[possible].T + bias[possible]).exp().sum()
    assert total[0] / 2000 == pytest.approx(float(exact), rel=0.05)


def test_many_draws_approach_the_full_cross_entropy():
    expected, vectors, bias, popularity = sampled_problem(200)
    targets = popularity.multinomial(200, replacement=True)
    sampled = sampled_cross_entropy(
        expected, vectors, bias, targets, popularity.log(), draw(targets, 100_000)
    ).mean()
    full = torch.nn.functional.cross_entropy(expected @ vectors.T + bias, targets)
    assert float(sampled) == pytest.approx(float(full), abs=0.05)


def test_only_drawn_items_and_targets_get_gradients():
    expected, vectors, bias, popularity = sampled_problem(8)
    vectors.requires_grad_()
    targets = popularity.multinomial(8, replacement=True)
    drawn = draw(targets, 4)
    losses = sampled_cross_entropy(expected, vectors, bias, targets, popularity.log(), drawn)
    losses.mean().backward()
    touched = int((vectors.grad.abs().sum(1) > 0).sum())
    assert touched <= len(targets.unique()) + 4


def saved_for_backward(tiny, n_items):
    """Bytes saved by a step of the sampled loss, without parameters, and the largest tensor."""
    config = tiny.model_copy(update={"loss": "sampled", "n_negatives": 64})
    network = SessionNetwork(n_items, config).train()
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    saved = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in parameters:
            saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    items = torch.arange(40).reshape(4, 10)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        next_item_loss, n_targets = NextItemLoss(network, config), items[:, 1:].numel()
        draws = next_item_loss.draw(items, n_targets)
        loss = next_item_loss(items, items[:, :1].clone(), n_targets, draws)
    loss.backward()
    return sum(saved.values()), max(saved.values())


def test_memory_of_the_sampled_loss_is_independent_of_the_catalogue(tiny):
    few, _ = saved_for_backward(tiny, 1_000)
    many, largest = saved_for_backward(tiny, 200_000)
    assert many < 1.2 * few
    assert largest < 200_000


def test_draws_are_of_the_catalogue_and_of_the_predictions(tiny):
    config = tiny.model_copy(update={"loss": "sampled", "n_negatives": 4001})
    next_item_loss = NextItemLoss(SessionNetwork(9, config), config)
    draws = next_item_loss.draw(torch.zeros(2, 4, dtype=torch.int64), 5)
    assert len(draws.uniform) == 2001
    assert draws.uniform.unique().tolist() == list(range(9))
    assert len(draws.positions) == 2000
    assert draws.positions.unique().tolist() == list(range(5))


@pytest.mark.parametrize(
    ("changes", "repeats"),
    [
        ({}, False),
        ({"loss": "sampled"}, True),
        ({"cell": "gru", "n_layers": 2}, True),
        ({"cell": "rnn", "attention": False, "loss": "sampled"}, False),
    ],
    ids=["full", "sampled", "gru", "rnn"],
)
def test_a_step_is_compiled_as_one_graph(tiny, changes, repeats):
    """The loss and its gradient are those of the step as it is."""
    config = tiny.model_copy(update=changes)
    network = SessionNetwork(30, config, repeats=repeats)
    network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(30))
    next_item_loss = NextItemLoss(network, config).train()
    items = torch.stack([torch.arange(5, 15), torch.arange(12, 22)])
    items[1, 7:] = 30
    batch = items, torch.tensor([[1, 2, 3], [12, 12, 12]]), 15
    draws = next_item_loss.draw(items, 15, torch.Generator().manual_seed(0))

    def gradient(module):
        loss = module(*batch, draws)
        return loss, *torch.autograd.grad(loss, [*network.parameters()])

    expected = gradient(next_item_loss)
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(next_item_loss, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(gradient(compiled), expected)
