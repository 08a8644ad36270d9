"""The training loop: epochs, learning rate, early stopping, checkpoints, several processes."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from recsys.callbacks import EpochCallback
from recsys.config import Runtime
from recsys.data import Interactions
from recsys.errors import ConfigError, TrainingError
from recsys.sessions.batches import Batch, collate, training_batches
from recsys.sessions.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    restore_rng,
    rng_tensors,
    save_checkpoint,
)
from recsys.sessions.config import SessionConfig
from recsys.sessions.loss import NextItemLoss
from recsys.sessions.model import SessionModel
from recsys.sessions.network import SessionNetwork

Validate = Callable[[SessionModel], Mapping[str, float]]
"""Computes metrics of a model on validation data."""

MONITOR = "ndcg_at_10"
"""The validation metric that selects the best epoch."""

_Batch = TypeVar("_Batch")

_FINAL_RATE = 0.05
"""The final learning rate, relative to the peak."""


class TrainingHistory:
    """The metrics of each epoch and the parameters of the best one."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.epochs: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_parameters: dict[str, Tensor] = {}

    def should_continue(self, max_epochs: int) -> bool:
        """Whether to train another epoch."""
        waited = len(self.epochs) - self.best_epoch if self.best_epoch else 0
        out_of_patience = self.patience is not None and waited >= self.patience
        return len(self.epochs) < max_epochs and not out_of_patience

    def update(self, metrics: Mapping[str, float], network: nn.Module) -> None:
        """Add the metrics of an epoch, and keep the parameters if it is the best so far."""
        self.epochs.append(dict(metrics))
        value = metrics.get(MONITOR)
        if value is None:
            return
        if not self.best_epoch or value > self.epochs[self.best_epoch - 1][MONITOR]:
            self.best_epoch = len(self.epochs)
            self.best_parameters = {
                name: tensor.detach().clone() for name, tensor in network.state_dict().items()
            }


class Distributed:
    """The processes of a training; each holds all data and trains on a shard of the batches.

    `torchrun` sets RANK and WORLD_SIZE. Gradients are averaged after every step
    (DistributedDataParallel). Only rank 0 writes checkpoints, and only its random state is
    restored from one.
    """

    def __init__(self, runtime: Runtime) -> None:
        from lightning_fabric import Fabric  # slow to import, and not needed for scoring

        # Fabric logs the requested precision.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.fabric = Fabric(
            accelerator=runtime.torch_device().type,
            devices=self.world_size,
            strategy="ddp" if self.world_size > 1 else "auto",
            precision=runtime.torch_precision(),
        )
        if self.world_size > 1:
            self.fabric.launch()
            # Dropout differs between processes; the order of the data does not.
            torch.manual_seed(runtime.seed + self.fabric.global_rank)

    def shard(self, batches: list[_Batch]) -> list[_Batch]:
        """Every n-th batch. Shards have equal length, so that a few batches may occur twice."""
        n_steps = -(-len(batches) // self.world_size)
        rank = self.fabric.global_rank
        return [batches[(step * self.world_size + rank) % len(batches)] for step in range(n_steps)]

    def all_reduce_sum(self, total: Tensor, count: int) -> tuple[Tensor, int]:
        """The sums of a tensor and of a count over all processes."""
        if self.world_size == 1:
            return total, count
        pair = torch.stack([total, total.new_tensor(count)])
        sums = self.fabric.all_reduce(pair, reduce_op="sum")
        return sums[0], int(sums[1])


class Trainer:
    """One training of a model with an initialized network, which is trained in place.

    `identity` must be equal in a checkpoint to resume from it. `checkpoint` is its folder.
    """

    def __init__(
        self,
        model: SessionModel,
        interactions: Interactions,
        runtime: Runtime,
        identity: Mapping[str, Any],
        checkpoint: Path | None,
    ) -> None:
        self.model = model
        self.interactions = interactions
        self.config = model.config
        self.identity = dict(identity)
        self.folder = checkpoint
        self.distributed = Distributed(runtime)
        self.device = self.distributed.fabric.device
        self.rng = np.random.default_rng(runtime.seed)
        self.raw_optimizer = new_optimizer(model.network)
        self.loss, self.optimizer = self.distributed.fabric.setup(
            NextItemLoss(model.network, model.config), self.raw_optimizer
        )
        self.step = 0
        self.history = TrainingHistory(self.config.patience)

    def run(self, on_epoch: EpochCallback, validate: Validate | None) -> SessionModel:
        """Train from the start or from the checkpoint to the end."""
        network, history = self.model.network, self.history
        self._resume()
        for epoch, metrics in enumerate(history.epochs, start=1):
            on_epoch(epoch, metrics)
        while history.should_continue(self.config.epochs):
            metrics = self._train_epoch(len(history.epochs) + 1)
            metrics |= dict(validate(self.model) if validate else {})
            history.update(metrics, network)
            self._save()
            on_epoch(len(history.epochs), metrics)
        if history.best_parameters:
            network.load_state_dict(history.best_parameters)
        network.eval()
        return self.model

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        started = time.perf_counter()
        self.loss.train()
        config, world_size = self.config, self.distributed.world_size
        batches = training_batches(
            self.interactions, config.train_chunk_length, config.batch_size, self.rng, world_size
        )
        batches = self.distributed.shard(batches)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        n_targets = 0
        for index, chunks in enumerate(batches):
            progress = (epoch - 1 + index / len(batches)) / config.epochs
            set_learning_rate(self.raw_optimizer, config, self.step, progress)
            batch = collate(self.interactions, chunks)
            total += batch.n_targets * self._train_step(batch).double()
            n_targets += batch.n_targets
        total, n_targets = self.distributed.all_reduce_sum(total, n_targets)
        train_loss = float(total) / n_targets
        self._check_finite(train_loss, epoch)
        return {
            "train_loss": train_loss,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "interactions_per_second": n_targets / (time.perf_counter() - started),
        }

    def _train_step(self, batch: Batch) -> Tensor:
        """One gradient step on one batch; returns its mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        arrays = (batch.items, batch.context)
        loss: Tensor = self.loss(*(torch.from_numpy(array).to(self.device) for array in arrays))
        fabric, max_norm = self.distributed.fabric, self.config.gradient_clip
        fabric.backward(loss)
        # The loss is checked once per epoch.
        fabric.clip_gradients(
            self.loss, self.optimizer, max_norm=max_norm, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    def _check_finite(self, train_loss: float, epoch: int) -> None:
        if math.isfinite(train_loss):
            return
        checkpoint = ""
        if self.folder and epoch > 1:
            checkpoint = f"; {self.folder / CHECKPOINT} holds the state after epoch {epoch - 1}"
        raise TrainingError(
            f"the loss is {train_loss} in epoch {epoch}: lower learning_rate "
            f"(now {self.config.learning_rate:g}){checkpoint}"
        )

    def _save(self) -> None:
        if self.folder is None or self.distributed.fabric.global_rank != 0:
            return
        groups = {
            "network": self.model.network.state_dict(),
            "best": self.history.best_parameters,
            "optimizer": optimizer_tensors(self.raw_optimizer),
            "random": rng_tensors(self.device),
        }
        metadata = {
            "identity": self.identity,
            "step": self.step,
            "data_order": self.rng.bit_generator.state,
            "epochs": self.history.epochs,
            "best_epoch": self.history.best_epoch,
        }
        save_checkpoint(self.folder, Checkpoint(groups, metadata))

    def _resume(self) -> None:
        """Restore the state from the checkpoint, if there is one."""
        found = load_checkpoint(self.folder) if self.folder else None
        if found is None:
            return
        identity = found.metadata["identity"]
        for name, value in self.identity.items():
            if identity.get(name) != value:
                raise ConfigError(
                    f"the checkpoint in {self.folder} belongs to another training: its {name} is "
                    f"{identity.get(name)!r}, here it is {value!r}; choose another folder, or "
                    "delete it"
                )
        self.model.network.load_state_dict(found.groups["network"])
        restore_optimizer(self.raw_optimizer, found.groups["optimizer"])
        if self.distributed.fabric.global_rank == 0:
            restore_rng(found.groups["random"], self.device)
        self.rng.bit_generator.state = found.metadata["data_order"]
        self.step = found.metadata["step"]
        self.history.epochs = found.metadata["epochs"]
        self.history.best_epoch = found.metadata["best_epoch"]
        self.history.best_parameters = dict(found.groups["best"])


def new_optimizer(network: SessionNetwork) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, with weight decay for matrices only."""
    config, trainable = network.config, [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: SessionConfig, step: int, progress: float
) -> None:
    """Linear warm-up by `step`, and cosine decay by `progress`, the share of the training done."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    rate = config.learning_rate * warmup * (_FINAL_RATE + (1.0 - _FINAL_RATE) * cosine)
    for group in optimizer.param_groups:
        group["lr"] = rate
