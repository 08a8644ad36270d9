"""Rejected variants of network, loss, batches and trainer for `session_ablations.py`.

Each replaces a class or function of the library for one training.

Shapes: B chunks, L steps, Q steps before, M predictions, C of them in a chunk, N items, K parts,
D embedding, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from recsys.callbacks import EpochCallback
from recsys.sessions import SessionConfig, SessionModel, SessionNetwork
from recsys.sessions.batches import Chunks, Histories, training_batches
from recsys.sessions.loss import Draws, NextItemLoss, SeenItems
from recsys.sessions.network import NO_DROPOUT, DropoutMasks, Hidden, NetworkState
from recsys.sessions.trainer import Trainer, Validate, set_learning_rate


class Untied(SessionNetwork):
    """Output embeddings that start like the input embeddings but are trained separately."""

    def __init__(self, n_items: int, config: SessionConfig, *, repeats: bool = False) -> None:
        super().__init__(n_items, config, repeats=repeats)
        self.own = nn.Parameter(torch.zeros(n_items, self.item_embeddings.embedding_dim))

    @torch.no_grad()
    def load_item_embeddings(self, item_embeddings: Tensor) -> None:
        super().load_item_embeddings(item_embeddings)
        self.own.copy_(super().output_embeddings)

    @property
    def output_embeddings(self) -> Tensor:
        return self.own


class LossOfLogits(NextItemLoss):
    """Cross-entropy of the logits of the network, in chunks of predictions."""

    def loss(
        self,
        query_MD: Tensor,
        targets_M: Tensor,
        seen: SeenItems | None,
        draws: Draws,  # noqa: ARG002
    ) -> Tensor:
        total = query_MD.new_zeros(())
        for start in range(0, len(targets_M), 256):
            chunk = slice(start, min(start + 256, len(targets_M)))
            total = total + checkpoint(
                self._of_chunk,
                query_MD[chunk],
                targets_M[chunk],
                chunk,
                seen,
                use_reentrant=False,
            )
        return total / len(targets_M)

    def _of_chunk(
        self, query_CD: Tensor, targets_C: Tensor, chunk: slice, seen: SeenItems | None
    ) -> Tensor:
        logits_CN = self.network.logits(query_CD).float()
        seen_CN = torch.zeros_like(logits_CN, dtype=torch.bool)
        if seen is not None:
            seen_CN.scatter_(1, seen.items(chunk), True)
        log_p_CN = logits_CN.masked_fill(seen_CN, -torch.inf).log_softmax(1)
        own_C = log_p_CN.gather(1, targets_C[:, None])[:, 0]
        mean_C = log_p_CN.masked_fill(seen_CN, 0.0).sum(1) / (~seen_CN).sum(1)
        smoothing = self.config.label_smoothing
        return -((1.0 - smoothing) * own_C + smoothing * mean_C).sum()


N_PARTS = 2


class Mixture(SessionNetwork):
    """A mixture of softmaxes (Yang et al. 2018)."""

    def __init__(self, n_items: int, config: SessionConfig, *, repeats: bool = False) -> None:
        super().__init__(n_items, config, repeats=repeats)
        d = self.item_embeddings.embedding_dim
        self.parts = nn.Linear(d, N_PARTS * d)
        self.prior = nn.Linear(d, N_PARTS)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator, item_counts: Tensor) -> None:
        super().reset_parameters(generator, item_counts)
        for layer in (self.parts, self.prior):
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.zero_()

    def logits(self, query_BD: Tensor) -> Tensor:
        parts_BKD = query_BD[:, None] + self.parts(query_BD).unflatten(1, (N_PARTS, -1))
        logits_BKN = nn.functional.linear(parts_BKD, self.output_embeddings, self.item_bias)
        return (
            self.prior(query_BD).log_softmax(1)[:, :, None] + logits_BKN.log_softmax(2)
        ).logsumexp(1)


class Enlarged(nn.Module):
    """Scales embeddings to the initial scale of LayerNorm."""

    def forward(self, vectors: Tensor) -> Tensor:
        return 10.0 * vectors


class NoInputNorm(SessionNetwork):
    def __init__(self, n_items: int, config: SessionConfig, *, repeats: bool = False) -> None:
        super().__init__(n_items, config, repeats=repeats)
        self.input_norm = Enlarged()  # type: ignore[assignment]


class WeightDrop(SessionNetwork):
    """Dropout of the recurrent weights (Merity et al. 2018)."""

    def forward(self, items_BL: Tensor, masks: DropoutMasks = NO_DROPOUT) -> Tensor:
        with mock.patch("recsys.sessions.network.run_layer", self._run):
            return super().forward(items_BL, masks)

    def _run(self, layer: nn.Module, x_BLH: Tensor, hidden: Hidden | None) -> Any:
        weight = layer.get_parameter("weight_hh_l0")
        dropped = nn.functional.dropout(weight, 0.3, self.training)
        return functional_call(layer, {"weight_hh_l0": dropped}, (x_BLH, hidden))


class CarriedNetwork(SessionNetwork):
    before: NetworkState | None = None

    def forward(self, items_BL: Tensor, masks: DropoutMasks = NO_DROPOUT) -> Tensor:
        return self.step(items_BL, self.before, masks)[0]


class Carried(NextItemLoss):
    """State and means carried over from the 100 items before a chunk, without gradient."""

    def forward(self, items_BL: Tensor, context_BP: Tensor, n_targets: int, draws: Draws) -> Tensor:
        network: Any = self.network
        network.before = self._state(items_BL, context_BP)
        return super().forward(items_BL, context_BP, n_targets, draws)

    @torch.no_grad()
    def _state(self, items_BL: Tensor, context_BP: Tensor) -> NetworkState:
        """The state before each chunk, without dropout; zero without earlier items.

        `context` is in chronological order and padded with the first item of the chunk.
        """
        network, config = self.network, self.config
        context_BP = torch.cat([context_BP, items_BL[:, :1]], dim=1)  # never empty
        n_all_B = (context_BP != items_BL[:, :1]).sum(1)
        n_B = n_all_B.clamp(max=config.train_chunk_length)
        has_B = n_B > 0
        n_chunks, longest = len(items_BL), max(int(n_B.max()), 1)
        steps_Q = torch.arange(longest)
        is_item_BQ = steps_Q < n_B[:, None]
        positions_BQ = ((n_all_B - n_B)[:, None] + steps_Q).clamp(max=context_BP.shape[1] - 1)
        items_BQ = torch.where(is_item_BQ, context_BP.gather(1, positions_BQ), network.n_items)
        input_BQD = network.input_norm(network.item_embeddings(items_BQ)).float()
        hidden = [torch.zeros(1, n_chunks, config.hidden_dim) for _ in range(2)]
        if has_B.any():
            packed = nn.utils.rnn.pack_padded_sequence(
                input_BQD[has_B], n_B[has_B], batch_first=True, enforce_sorted=False
            )
            with torch.autocast("cpu", enabled=False):
                _, after = network.layers[0](packed)
            for part, found in zip(hidden, after, strict=True):
                part[:, has_B] = found
        ago_BQ = (n_B[:, None] - 1 - steps_Q).clamp(min=0)
        decay_K1 = network.ema_features.decay[:, None]
        weights_BKQ = (1.0 - decay_K1) * decay_K1 ** ago_BQ[:, None]
        emas_BKD = (weights_BKQ * is_item_BQ[:, None]) @ input_BQD
        return NetworkState((tuple(hidden),), emas_BKD, None)


class Averaged(Trainer):
    """Returns a moving average of the weights, with decay 0.99."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.average = AveragedModel(
            self.model.network, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=False
        )

    def _train_step(self, *batch: NDArray[np.int64]) -> Tensor:
        loss = super()._train_step(*batch)
        self.average.update_parameters(self.model.network)
        return loss

    def run(self, on_epoch: EpochCallback, validate: Validate | None) -> SessionModel:
        model = super().run(on_epoch, validate)
        model.network.load_state_dict(self.average.module.state_dict())
        return model


class EqualWeights(Trainer):
    """Weighs a batch by its number of predictions, so that all predictions weigh the same."""

    n_targets = 0

    def _train_step(self, items_BL: Tensor, context_BP: Tensor, n_targets: int) -> Tensor:
        self.n_targets += n_targets
        weight = n_targets * (self.step + 1) / self.n_targets
        backward = self.fabric.backward
        with mock.patch.object(self.fabric, "backward", lambda loss: backward(weight * loss)):
            return super()._train_step(items_BL, context_BP, n_targets)


def batches_of_one_length(
    interactions: Histories,
    max_length: int,
    batch_size: int | None,
    rng: np.random.Generator,
) -> list[Chunks]:
    """Batches of few shapes: lengths are rounded up to a fourth of a power of two."""
    batches = training_batches(interactions, max_length, batch_size, rng)
    chunks = np.concatenate(batches)
    n_predictions = chunks[:, 2] - chunks[:, 1] - 1
    unit = 2 ** np.maximum(np.frexp(n_predictions)[1] - 3, 0)
    length = np.minimum(-(-n_predictions // unit) * unit, max_length)
    chunks = chunks[np.lexsort((rng.random(len(chunks)), length))]
    size = max(map(len, batches))
    groups = [chunks[i : i + size] for i in range(0, len(chunks), size)]
    return [groups[i] for i in rng.permutation(len(groups))]


def constant_rate(
    optimizer: torch.optim.Optimizer, config: SessionConfig, step: int, _progress: float
) -> None:
    """The peak rate after the warm-up."""
    set_learning_rate(optimizer, config, step, 0.0)


@dataclass(frozen=True)
class Variant:
    """The classes and functions that replace those of the library."""

    network: type[SessionNetwork] = SessionNetwork
    loss: type[NextItemLoss] = NextItemLoss
    trainer: type[Trainer] = Trainer
    set_rate: Callable[..., None] = set_learning_rate
    batches: Callable[..., list[Chunks]] = training_batches

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Patch the library for trainings inside the block."""
        with ExitStack() as patches:
            for name, own in (
                ("fit.SessionNetwork", self.network),
                ("fit.Trainer", self.trainer),
                ("trainer.NextItemLoss", self.loss),
                ("trainer.set_learning_rate", self.set_rate),
                ("trainer.training_batches", self.batches),
            ):
                patches.enter_context(mock.patch(f"recsys.sessions.{name}", own))
            yield


TRIED = {
    "untied output embeddings": Variant(Untied),
    "no LayerNorm of the input": Variant(NoInputNorm),
    "mixture of two softmaxes": Variant(Mixture, LossOfLogits),
    "weight drop of 0.3": Variant(WeightDrop),
    "state of earlier items": Variant(CarriedNetwork, Carried),
    "moving average of the weights": Variant(trainer=Averaged),
    "constant learning rate": Variant(set_rate=constant_rate),
    "batches of one length": Variant(batches=batches_of_one_length),
    "predictions of equal weight": Variant(trainer=EqualWeights),
    "one length and equal weight": Variant(trainer=EqualWeights, batches=batches_of_one_length),
}
"""The variants by name."""
