"""Computations on a GPU: a pretended one on any machine, and a real one where there is one."""

import contextlib

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from recsys import sessions
from recsys.callbacks import History
from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.embeddings import EmbeddingConfig, PairWeights, fit_embeddings, spectral_optimum
from recsys.evaluation import evaluate
from recsys.sessions import SessionConfig, SessionNetwork, fit_session_model, trainer
from recsys.sessions.checkpoint import load_checkpoint, save_checkpoint
from recsys.sessions.loss import NextItemLoss
from recsys.vocabulary import Vocabulary

CPU = Runtime(device="cpu", threads=1, precision="32-true")
GPU = CPU.model_copy(update={"device": "cuda:0"})


def names_gpu(value):
    return isinstance(value, str | torch.device) and str(value).startswith("cuda")


class PretendedGPU(TorchFunctionMode):
    """Every tensor is on the CPU, but those on "cuda" are marked, and mixing them is an error.

    As with CUDA, tensors without dimensions mix with all, and indices may be on the CPU.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        given, name = tree_leaves((args, kwargs)), func.__name__
        tensors = [value for value in given if isinstance(value, Tensor)]
        marked = [getattr(tensor, "on_gpu", False) for tensor in tensors]
        if func == Tensor.is_cuda.__get__:
            return marked[0]
        if func == Tensor.device.__get__ and marked[0]:
            return torch.device("cuda", 0)
        if name in ("numpy", "__array__") and marked[0]:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name in ("_parse_to", "_has_compatible_shallow_copy_type"):  # called by Module.to
            return func(*args, **kwargs or {})
        mixed = len({on_gpu for x, on_gpu in zip(tensors, marked, strict=True) if x.ndim or on_gpu})
        moves = name in ("to", "cpu", "copy_") or func == Tensor.data.__set__
        if mixed > 1 and not moves and not (name == "__getitem__" and marked[0]):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        places = [names_gpu(value) for value in given if isinstance(value, str | torch.device)]
        args, kwargs = tree_map(lambda x: "cpu" if names_gpu(x) else x, (args, kwargs or {}))
        result = func(*args, **kwargs)
        if not moves:
            return tree_map(lambda leaf: mark(leaf, any(marked + places)), result)
        if name == "copy_":
            return result
        if name == "__set__":
            return mark(args[0], marked[1])
        on_gpu = name == "to" and [*places, *marked[1:], marked[0]][0]
        return mark(result.clone() if result is args[0] and on_gpu != marked[0] else result, on_gpu)


def mark(leaf, on_gpu):
    if isinstance(leaf, Tensor):
        leaf.on_gpu = on_gpu
    return leaf


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request, monkeypatch):
    """A GPU called "cuda"."""
    if request.param == "real":
        yield
        return
    strategy = SingleDeviceStrategy(torch.device("cuda:0"), accelerator=CPUAccelerator())
    monkeypatch.setattr(trainer, "new_fabric", lambda *_: Fabric(strategy=strategy))
    monkeypatch.setattr(CPUAccelerator, "setup_device", lambda self, device: None)
    generator = torch.Generator()
    monkeypatch.setattr(torch, "Generator", lambda _device="cpu": generator.clone_state())
    answers = {"is_available": True, "device_count": 1}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    with PretendedGPU():
        yield


def test_a_gpu_refuses_to_mix(gpu):
    here = torch.ones(2)
    there = here.to("cuda")
    mixes = [lambda: there + here, lambda: torch.cat([here, there]), lambda: here[there.long()]]
    for mix in (*mixes, there.numpy):
        with pytest.raises((RuntimeError, TypeError)):
            mix()
    assert there[here.long() - 1].device == (there + torch.tensor(1.0)).device == there.device
    assert torch.zeros_like(there).is_cuda
    assert not there.cpu().is_cuda


N_ITEMS = 30
SIZES = {"embedding_dim": 8, "hidden_dim": 12, "epochs": 2, "batch_size": 64, "warmup_steps": 5}
NO_DROPOUT = {f"{what}_dropout": 0.0 for what in ("item", "input", "output", "ema")}
SMALL = SessionConfig(**SIZES, **NO_DROPOUT)
KINDS = {
    "lstm": {},
    "gru, two layers": {"cell": "gru", "n_layers": 2},
    "rnn, no attention": {"cell": "rnn", "attention": False, "feed_forward": 0},
    "frozen": {"freeze_item_embeddings": True},
    "sampled, dropout": {"loss": "sampled", "input_dropout": 0.2, "item_dropout": 0.1},
}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_a_session_model_is_trained_resumed_and_evaluated(gpu, changes, sample_split, tmp_path):
    """Without dropout and sampling, with the losses of a training on the CPU."""
    config = SMALL.model_copy(update=changes)

    def fit(runtime, checkpoint):
        options = {"runtime": runtime, "checkpoint": checkpoint, "on_epoch": (history := History())}
        options["validate"] = lambda model: evaluate(model, sample_split, "validation").metrics
        fit_session_model(sample_split.train, config, **options)
        return history.series("train_loss")

    losses, expected = fit(GPU, tmp_path), fit(CPU, None)
    if "loss" not in changes:
        assert losses == pytest.approx(expected, rel=1e-3)
    state = load_checkpoint(tmp_path)
    state[1]["epochs"].pop()  # resume before the last epoch
    save_checkpoint(tmp_path, *state)
    assert fit(GPU, tmp_path) == pytest.approx(expected, rel=0.05)


WAITS = {
    "item", "tolist", "cpu", "numpy", "nonzero", "unique", "masked_select", "new_tensor",
    "__bool__", "__int__", "__float__", "__index__", "__array__",
}  # fmt: skip


class NoWaiting(TorchFunctionMode):
    """Refuses operations that wait for a GPU: those that give values to Python, or their shape."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        on_gpu = [getattr(tensor, "on_gpu", False) for tensor in tensors]
        name = func.__name__
        indices = tree_leaves(args[1:]) if name in ("__getitem__", "__setitem__") else []
        by_mask = any(isinstance(x, Tensor) and x.dtype == torch.bool for x in indices)
        copied = name == "to" and tensors[0].ndim and not on_gpu[0]
        if any(on_gpu) and (name in WAITS or by_mask or copied):
            raise RuntimeError(f"{name} waits for the GPU")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("changes", [{}, KINDS["sampled, dropout"]], ids=["full", "sampled"])
def test_no_step_waits_for_the_gpu(gpu, request, monkeypatch, changes, sample_split):
    is_real = "real" in request.node.callspec.id
    cut, step, n_steps = trainer.cut_batches, trainer.Trainer._train_step, []

    @contextlib.contextmanager
    def no_waiting():
        torch.cuda.set_sync_debug_mode("error") if is_real else None
        with contextlib.nullcontext() if is_real else NoWaiting():
            yield
        torch.cuda.set_sync_debug_mode("default") if is_real else None

    def guarded_cut(*args):
        batches = cut(*args)
        batch = next(batches)  # the places of all batches are copied at once
        while batch:
            yield batch
            with no_waiting():
                batch = next(batches, None)

    def guarded_step(*args):
        n_steps.append(1)
        with no_waiting():
            return step(*args)

    monkeypatch.setattr(trainer, "cut_batches", guarded_cut)
    monkeypatch.setattr(trainer.Trainer, "_train_step", guarded_step)
    config = SMALL.model_copy(update={"epochs": 1, "batch_size": 8, **changes})
    fit_session_model(sample_split.train, config, runtime=GPU)
    assert len(n_steps) > 2


def untrained(**changes):
    network = SessionNetwork(N_ITEMS, SMALL.model_copy(update=changes).resolve(0))
    network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(N_ITEMS))
    return sessions.SessionModel(network.eval(), Vocabulary.of(range(N_ITEMS)))


@pytest.mark.parametrize("changes", [{}, {"cell": "gru", "n_layers": 2, "attention": False}])
def test_scores_are_those_of_the_cpu(gpu, changes):
    model = untrained(train_chunk_length=6, **changes)
    histories = [np.arange(n, dtype=np.int32) for n in (1, 0, 20, 7)]
    expected = model.score(histories)
    model.network.to("cuda")
    np.testing.assert_allclose(model.score(histories), expected, atol=1e-2)
    state = model.start()
    for item in range(7):
        state, step_scores = model.step(state, item)
    np.testing.assert_allclose(step_scores, expected[3], atol=1e-2)
    models = model, sessions.NumpySessionModel(sessions.from_torch(model))
    found = [sessions.beam_search(one, histories[3], length=3, beam_width=4) for one in models]
    assert [best.items for best in found[0]] == [best.items for best in found[1]]


@pytest.mark.gpu
def test_a_scorer_is_exported(tmp_path):
    model = untrained()
    model.network.to("cuda")
    expected = torch.from_numpy(model.score([np.arange(3, dtype=np.int32)]))
    file = sessions.export_scorer(model, tmp_path / "scorer.pt2", length=5)
    inputs = torch.tensor([[0, 1, 2, N_ITEMS, N_ITEMS]]), torch.tensor([3])
    scores = torch.export.load(file).module()(*(x.to("cuda") for x in inputs))
    torch.testing.assert_close(scores.cpu(), expected, atol=1e-2, rtol=0)


@pytest.mark.gpu
def test_small_gradients_of_recurrent_layers_do_not_vanish():
    """float16, which autocast would choose, has no numbers below 6e-8."""
    network = untrained().network.to("cuda").train()
    loss = NextItemLoss(network, SMALL)
    items = torch.arange(24, device="cuda").reshape(2, 12)
    weight = network.layers[0].weight_hh_l0
    batch = items, items[:, :1], 22, loss.draw(items, 22)
    (exact,) = torch.autograd.grad(loss(*batch), weight)
    with torch.autocast("cuda", torch.bfloat16):
        (small,) = torch.autograd.grad(1e-9 * loss(*batch), weight)
    assert (small / 1e-9 - exact).norm() < 0.05 * exact.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{}, {"loss": "sampled"}], ids=["full", "sampled"])
def test_loss_and_gradient_are_captured_as_a_cuda_graph(changes):
    network = untrained(**changes).network.to("cuda").train()
    loss = NextItemLoss(network, network.config)
    items = torch.arange(24, device="cuda").reshape(2, 12)
    batch = items, items[:, :1].clone(), 22, loss.draw(items, 22)

    def gradient():
        value = loss(*batch)
        return value, *torch.autograd.grad(value, [*network.parameters()])

    expected, stream = gradient(), torch.cuda.Stream()
    with torch.cuda.stream(stream):  # libraries are initialized outside of a capture
        gradient()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = gradient()
    graph.replay()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


FITS = {
    "default": {},
    "random rows": {"batch_rows": 16},
    "sgd": {"optimizer": "sgd", "init": "random", "schedule": "cosine"},
    "adam": {"optimizer": "adam", "schedule": "plateau"},
    "lbfgs": {"optimizer": "lbfgs"},
    "spectral": {"method": "spectral"},
    "spectral start": {"init": "spectral"},
    "weights": {"pair_weights": PairWeights(x_max=5.0, zero_weight=0.1)},
}


@pytest.mark.parametrize("changes", FITS.values(), ids=FITS)
def test_embeddings_are_those_of_the_cpu(gpu, changes, sample):
    counts = count_cooccurrence(sample)
    config = EmbeddingConfig(dim=6, epochs=30, **changes)
    fitted, expected = (fit_embeddings(counts, config, runtime=runtime) for runtime in (GPU, CPU))
    assert fitted.loss == pytest.approx(expected.loss, rel=1e-3)
    assert fit_embeddings(counts, config, runtime=GPU, start=fitted).loss <= fitted.loss * 1.01


def test_counts_may_be_few_or_in_blocks(gpu, sample):
    """A small matrix is solved from several starts."""
    few = count_cooccurrence(sample).matrix[:20, :20]
    losses = [spectral_optimum(few, 3, runtime=runtime).loss for runtime in (GPU, CPU)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    blocks = [(0, few[:8]), (8, few[8:])]
    assert fit_embeddings(blocks, EmbeddingConfig(dim=3), runtime=GPU).loss_ratio < 1.01
