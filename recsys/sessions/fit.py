"""Train the session model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.callbacks import OnEpoch, ignore
from recsys.config import Runtime
from recsys.data import Interactions
from recsys.errors import ConfigError, DataError, TrainingError
from recsys.sessions.batches import training_batches
from recsys.sessions.config import SessionConfig
from recsys.sessions.loss import tied_cross_entropy
from recsys.sessions.network import LSTMNetwork
from recsys.sessions.session_model import SessionModel

Validate = Callable[[SessionModel], Mapping[str, float]]
"""Gives metrics of a model on data that it does not learn from."""

_FINAL_RATE = 0.05
"""The learning rate at the end, over its peak."""


def fit_session_model(
    interactions: Interactions,
    config: SessionConfig | None = None,
    *,
    item_vectors: NDArray[np.float32] | None = None,
    runtime: Runtime | None = None,
    on_epoch: OnEpoch = ignore,
    validate: Validate | None = None,
) -> SessionModel:
    """Train an LSTM to predict each watch from those before it.

    The loss is the cross-entropy over the whole catalogue, at every position of every history,
    with smoothed labels.

    Args:
        interactions: the watches to learn from.
        config: sizes, dropout and training.
        item_vectors: where the item vectors start, [n_items, any number of columns]; used when
            `config.initial_vectors` is "embeddings". Without them, vectors start at random.
        runtime: device, precision, seed and threads.
        on_epoch: called after each epoch with `train_loss` (nats per watch),
            `learning_rate`, `watches_per_second` and what `validate` gave.
        validate: called after each epoch with the model as it then is.

    Raises:
        DataError: no user has two watches.
        ConfigError: `item_vectors` are not one per item.
        TrainingError: the loss is no longer a number.
    """
    config = config or SessionConfig()
    runtime = runtime or Runtime()
    if not (interactions.history_lengths > 1).any():
        raise DataError("no user has two watches: there is no sequence to learn from")
    # Dropout draws from torch's global generators: seed them here, and put them back after.
    forked = _cuda_index(runtime.torch_device())
    with runtime.limit_threads(), torch.random.fork_rng(devices=forked):
        torch.manual_seed(runtime.seed)
        network = _new_network(interactions, config, item_vectors, runtime.seed)
        model = SessionModel(network, interactions.items)
        _Training(model, interactions, config, runtime).run(on_epoch, validate)
    network.eval()
    return model


def _new_network(
    interactions: Interactions,
    config: SessionConfig,
    item_vectors: NDArray[np.float32] | None,
    seed: int,
) -> LSTMNetwork:
    network = LSTMNetwork(interactions.n_items, config)
    counts = np.bincount(interactions.item_index, minlength=interactions.n_items)
    network.initialise(torch.Generator().manual_seed(seed), torch.from_numpy(counts).float())
    if item_vectors is not None and config.initial_vectors == "embeddings":
        if len(item_vectors) != interactions.n_items:
            raise ConfigError(
                f"there are {len(item_vectors)} item vectors for {interactions.n_items} items: "
                "pass the embeddings fitted on the same interactions"
            )
        network.start_vectors_from(torch.from_numpy(item_vectors))
    return network


class _Training:
    """The state of one training: network, optimiser, schedule, data order."""

    def __init__(
        self,
        model: SessionModel,
        interactions: Interactions,
        config: SessionConfig,
        runtime: Runtime,
    ) -> None:
        self.model = model
        self.interactions = interactions
        self.config = config
        self.rng = np.random.default_rng(runtime.seed)
        from lightning_fabric import Fabric  # slow to import: not for those who only score

        self.fabric = Fabric(
            accelerator=runtime.torch_device().type, devices=1, precision=runtime.torch_precision()
        )
        parameters = list(model.network.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.network, self.optimizer = self.fabric.setup(model.network, optimizer)
        self.step = 0

    def run(self, on_epoch: OnEpoch, validate: Validate | None) -> None:
        for epoch in range(1, self.config.epochs + 1):
            started = time.perf_counter()
            self.network.train()
            train_loss, n_watches = self._epoch(epoch)
            if not math.isfinite(train_loss):
                raise TrainingError(
                    f"the loss is {train_loss} in epoch {epoch}: lower learning_rate "
                    f"(now {self.config.learning_rate:g})"
                )
            metrics = {
                "train_loss": train_loss,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "watches_per_second": n_watches / (time.perf_counter() - started),
            }
            on_epoch(epoch, metrics | dict(validate(self.model) if validate else {}))

    def _epoch(self, epoch: int) -> tuple[float, int]:
        """Learn from every watch once; give back the mean loss and the number of watches."""
        batches = training_batches(
            self.interactions, self.config.max_session_length, self.config.batch_size, self.rng
        )
        total = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        n_watches = 0
        for position, batch in enumerate(batches):
            progress = (epoch - 1 + position / len(batches)) / self.config.epochs
            self._set_learning_rate(progress)
            items_BL = torch.from_numpy(batch).to(self.fabric.device)
            is_watch_BL = items_BL[:, 1:] != self.interactions.n_items
            loss = self._learn(items_BL, is_watch_BL)
            count = int((batch[:, 1:] != self.interactions.n_items).sum())
            total += loss.double() * count
            n_watches += count
        return float(total) / n_watches, n_watches

    def _learn(self, items_BL: Tensor, is_watch_BL: Tensor) -> Tensor:
        """One gradient step on one batch; gives back its mean loss per watch."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.fabric.autocast():
            expected_BLD = self.network(items_BL[:, :-1])
            loss = tied_cross_entropy(
                expected_BLD[is_watch_BL],
                self.model.network.item_vectors.weight[:-1],
                self.model.network.item_bias,
                items_BL[:, 1:][is_watch_BL],
                self.config.label_smoothing,
            )
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self.network,
            self.optimizer,
            max_norm=self.config.gradient_clip,
            error_if_nonfinite=False,  # the loss is checked after the epoch
        )
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    def _set_learning_rate(self, progress: float) -> None:
        """Linear warm-up, then half a cosine from the peak down to `_FINAL_RATE` of it."""
        warmup = min(1.0, (self.step + 1) / max(self.config.warmup_steps, 1))
        cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
        rate = self.config.learning_rate * warmup * (_FINAL_RATE + (1.0 - _FINAL_RATE) * cosine)
        for group in self.optimizer.param_groups:
            group["lr"] = rate


def _cuda_index(device: torch.device) -> list[Any]:
    return [torch.cuda.current_device()] if device.type == "cuda" else []
