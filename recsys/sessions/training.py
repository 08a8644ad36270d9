"""One training of the session model: epochs, learning rate, checkpoints, the best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys.callbacks import EpochCallback
from recsys.config import Runtime
from recsys.data import Interactions
from recsys.errors import ConfigError, TrainingError
from recsys.sessions.batches import Batch, fill, training_batches
from recsys.sessions.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    random_tensors,
    restore_optimizer,
    restore_random,
    save_checkpoint,
)
from recsys.sessions.objective import Objective
from recsys.sessions.optimizer import new_optimizer, set_learning_rate
from recsys.sessions.processes import Processes
from recsys.sessions.progress import Progress
from recsys.sessions.session_model import SessionModel

Validate = Callable[[SessionModel], Mapping[str, float]]
"""Gives metrics of a model on data that it does not learn from."""


class Training:
    """The state of one training, which a checkpoint holds and restores.

    Args:
        model: with its network initialised; trained in place.
        interactions: the watches to learn from.
        runtime: device, precision and seed.
        identity: what must be equal for a checkpoint to be taken up.
        checkpoint: folder of the checkpoint; None keeps none.
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
        self.processes = Processes(runtime)
        self.device = self.processes.device
        self.rng = np.random.default_rng(runtime.seed)
        self.objective = Objective(model.network, model.config)
        self.raw_optimizer = new_optimizer(model.network)
        self.network, self.optimizer = self.processes.fabric.setup(
            self.objective, self.raw_optimizer
        )
        self.step = 0
        self.progress = Progress(self.config.patience)

    def run(self, on_epoch: EpochCallback, validate: Validate | None) -> SessionModel:
        """Train to the end, from the beginning or from the checkpoint."""
        self._take_up()
        for epoch, metrics in enumerate(self.progress.told, start=1):
            on_epoch(epoch, metrics)
        while self.progress.goes_on(self.config.epochs):
            metrics = self._epoch(self.progress.epochs_done + 1)
            metrics |= dict(validate(self.model) if validate else {})
            self.progress.note(metrics, self.model.network)
            self._save()
            on_epoch(self.progress.epochs_done, metrics)
        self.progress.restore_best(self.model.network)
        self.model.network.eval()
        return self.model

    def _epoch(self, epoch: int) -> dict[str, float]:
        """Learn from every watch once."""
        started = time.perf_counter()
        self.network.train()
        batches = self.processes.own_share(
            training_batches(
                self.interactions,
                self.config.train_chunk_length,
                self.config.batch_size,
                self.rng,
                self.processes.n,
            )
        )
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        n_watches = 0
        for position, stretches in enumerate(batches):
            progress = (epoch - 1 + position / len(batches)) / self.config.epochs
            set_learning_rate(self.raw_optimizer, self.config, self.step, progress)
            batch = fill(self.interactions, stretches)
            total += batch.n_targets * self._learn(batch).double()
            n_watches += batch.n_targets
        total, n_watches = self.processes.sum_over(total, n_watches)
        train_loss = float(total) / n_watches
        self._require_a_number(train_loss, epoch)
        return {
            "train_loss": train_loss,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "interactions_per_second": n_watches / (time.perf_counter() - started),
        }

    def _learn(self, batch: Batch) -> Tensor:
        """One gradient step on one batch; gives back its mean loss per watch."""
        self.optimizer.zero_grad(set_to_none=True)
        items_BL, earlier_BP = (
            torch.from_numpy(part).to(self.device) for part in (batch.items, batch.earlier)
        )
        loss: Tensor = self.network(items_BL, earlier_BP)
        self.processes.fabric.backward(loss)
        self.processes.fabric.clip_gradients(
            self.network,
            self.optimizer,
            max_norm=self.config.gradient_clip,
            error_if_nonfinite=False,  # the loss is checked after the epoch
        )
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    def _require_a_number(self, train_loss: float, epoch: int) -> None:
        if math.isfinite(train_loss):
            return
        kept = (
            f"; {self.folder / CHECKPOINT} holds the state after epoch {epoch - 1}"
            if self.folder and epoch > 1
            else ""
        )
        raise TrainingError(
            f"the loss is {train_loss} in epoch {epoch}: lower learning_rate "
            f"(now {self.config.learning_rate:g}){kept}"
        )

    def _save(self) -> None:
        if self.folder is None or not self.processes.is_first:
            return
        parts = {
            "network": self.model.network.state_dict(),
            "best": self.progress.best_parameters,
            "optimizer": optimizer_tensors(self.raw_optimizer),
            "random": random_tensors(self.device),
        }
        tensors = {
            f"{owner}.{name}": t for owner, part in parts.items() for name, t in part.items()
        }
        facts = {
            "identity": self.identity,
            "step": self.step,
            "data_order": self.rng.bit_generator.state,
            "progress": self.progress.facts(),
        }
        save_checkpoint(self.folder, Checkpoint(tensors, facts))

    def _take_up(self) -> None:
        """Go back to where the checkpoint stands, if there is one."""
        found = load_checkpoint(self.folder) if self.folder else None
        if found is None:
            return
        for name, value in self.identity.items():
            if found.facts["identity"].get(name) != value:
                raise ConfigError(
                    f"the checkpoint in {self.folder} is of another training: its {name} is "
                    f"{found.facts['identity'].get(name)!r}, here it is {value!r}; "
                    "choose another folder, or remove it"
                )
        self.model.network.load_state_dict(found.part("network"))
        restore_optimizer(self.raw_optimizer, found.part("optimizer"))
        if self.processes.is_first:
            restore_random(found.part("random"), self.device)
        self.rng.bit_generator.state = found.facts["data_order"]
        self.step = found.facts["step"]
        self.progress.restore(found.facts["progress"], found.part("best"))
