"""The training loop: epochs, learning rate, early stopping, checkpoints, several processes."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recsys.callbacks import EpochCallback
from recsys.config import Runtime
from recsys.errors import ConfigError, TrainingError
from recsys.sessions.batches import Histories, cut_batches, shard, training_batches
from recsys.sessions.checkpoint import (
    CHECKPOINT,
    DAMAGED,
    Checkpoint,
    DamagedCheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from recsys.sessions.config import SessionConfig
from recsys.sessions.loss import NextItemLoss
from recsys.sessions.model import SessionModel
from recsys.sessions.network import SessionNetwork
from recsys.sessions.numpy_model import parameter_bytes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from recsys.sessions.distributed import Group

Validate = Callable[[SessionModel], Mapping[str, float]]
"""Computes metrics of a model on validation data; `ndcg_at_10` selects the best epoch."""

_logger = logging.getLogger(__name__)

_BACKWARD = threading.Lock()  # Fabric notes in a global variable that it runs

_DIVERGED = 3.0  # times the loss of a random guess; training begins near 1


def checkpoint_bytes(config: SessionConfig, n_items: int) -> int:
    """The room that the checkpoints of a training need.

    A checkpoint holds the latest and the best parameters, and the two moments of the optimizer. The
    previous one is removed after the next is complete.
    """
    return 2 * 4 * parameter_bytes(config, n_items)


def new_fabric(runtime: Runtime, group: Group | None = None) -> Fabric:
    """The processes of a training; each reads all data and trains on a shard of the batches.

    They are those of the group, which is launched, or else those of `torchrun`, which sets RANK
    and WORLD_SIZE. Gradients are averaged after every step (DistributedDataParallel). Only rank 0
    validates and has checkpoints.
    """
    from lightning_fabric import Fabric  # slow to import, and not needed for scoring

    # Fabric logs the requested precision.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    device = runtime.torch_device()
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    # Of this machine: torchrun may have started others elsewhere.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    nodes = world_size // processes
    strategy: Any = "auto"
    if group is not None:
        processes, nodes, strategy = group.job.processes, group.job.nodes, group.strategy()
    elif world_size > 1:
        from recsys.sessions.distributed import Strategy

        strategy = Strategy(world_size, device)
    fabric = Fabric(
        accelerator=device.type,
        devices=processes if device.index is None else [device.index],
        num_nodes=nodes,
        strategy=strategy,
        precision=runtime.torch_precision(),
    )
    if world_size > 1 or group is not None:
        fabric.launch()
    if world_size > 1:
        atexit.register(leave_process_group)
    return fabric


def leave_process_group() -> None:
    """Stop the threads of the process group: a process may abort if it exits while they run."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Trainer:
    """One training of a model with an initialized network, which is trained in place.

    `identity` must be equal in a checkpoint to resume from it. `checkpoint` is its folder.
    `notify` is told whether training resumes. `group` has the processes that were launched for it.
    See `fit_session_model` for `loss_threads`.
    """

    def __init__(
        self,
        model: SessionModel,
        interactions: Histories,
        runtime: Runtime,
        identity: Mapping[str, Any],
        checkpoint: Path | None,
        notify: Callable[[str], object] = _logger.info,
        group: Group | None = None,
        loss_threads: int = 1,
    ) -> None:
        self.model = model
        self.interactions = interactions
        self.config = model.config
        self.n_epochs = model.config.epochs or 1  # never None: the configuration is resolved
        self.identity = identity
        self.folder = checkpoint
        self.notify = notify
        self.loss_threads = loss_threads
        self.fabric = new_fabric(runtime, group)
        self.device = self.fabric.device
        # Without a copy, if they are on the CPU.
        items = np.require(interactions.item_index, requirements="W")
        self.item_index = torch.from_numpy(items).to(self.device)
        self.rng = np.random.default_rng(runtime.seed)
        # Dropout differs between processes; the order of the data does not.
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(runtime.seed + self.fabric.global_rank)
        self.raw_optimizer = new_optimizer(model.network)
        self.raw_loss = NextItemLoss(model.network, model.config)
        self.loss, self.optimizer = self.fabric.setup(self.raw_loss, self.raw_optimizer)
        self.step = 0
        self.epochs: list[dict[str, float]] = []  # metrics of each epoch
        self.best_epoch = 0
        self.best_parameters: dict[str, Tensor] = {}

    def run(self, on_epoch: EpochCallback, validate: Validate | None) -> SessionModel:
        """Train from the start or from the checkpoint to the end."""
        with ExitStack() as stack:
            if self.loss_threads > 1:
                self.raw_loss.helper = stack.enter_context(ThreadPoolExecutor(1))
            return self._run(on_epoch, validate)

    def _run(self, on_epoch: EpochCallback, validate: Validate | None) -> SessionModel:
        self._resume()
        for epoch, metrics in enumerate(self.epochs, start=1):
            on_epoch(epoch, metrics)
        while not self._is_finished():
            metrics = self._train_epoch()
            is_first = self.fabric.global_rank == 0
            metrics |= self._of_first(dict(validate(self.model)) if validate and is_first else {})
            self._record(metrics)
            self._save()
            on_epoch(len(self.epochs), metrics)
        if self.best_parameters:
            self.model.network.load_state_dict(self.best_parameters)
        self.model.network.eval()
        return self.model

    def _of_first(self, metrics: dict[str, float]) -> dict[str, float]:
        """The metrics of rank 0; all processes send theirs, see `Strategy`."""
        if self.fabric.world_size == 1:
            return metrics
        gathered: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(gathered, metrics)
        of_first: dict[str, float] = gathered[0]
        return of_first

    def _is_finished(self) -> bool:
        n_epochs, patience = len(self.epochs), self.config.patience
        out_of_patience = patience and self.best_epoch and n_epochs - self.best_epoch >= patience
        return n_epochs >= self.n_epochs or bool(out_of_patience)

    def _record(self, metrics: Mapping[str, float]) -> None:
        """Add the metrics of an epoch, and keep the parameters if it is the best so far."""
        self.epochs.append(dict(metrics))
        value = metrics.get("ndcg_at_10")
        best = self.epochs[self.best_epoch - 1]["ndcg_at_10"] if self.best_epoch else None
        if value is not None and (best is None or value > best):
            self.best_epoch = len(self.epochs)
            state = self.model.network.state_dict()
            self.best_parameters = {name: tensor.clone() for name, tensor in state.items()}

    def _train_epoch(self) -> dict[str, float]:
        started, epoch = time.perf_counter(), len(self.epochs) + 1
        self.loss.train()
        config, fabric = self.config, self.fabric
        batches = training_batches(
            self.interactions, config.train_chunk_length, config.batch_size, self.rng
        )
        batches = [shard(batch, fabric.global_rank, fabric.world_size) for batch in batches]
        # The sum of the losses stays on the device until the end of the epoch.
        loss, n_targets = torch.zeros((), dtype=torch.float64, device=self.device), 0
        for index, batch in enumerate(cut_batches(self.item_index, batches, self.model.n_items)):
            progress = (epoch - 1 + index / len(batches)) / self.n_epochs
            set_learning_rate(self.raw_optimizer, config, self.step, progress)
            loss += batch[-1] * self._train_step(*batch).double()
            n_targets += batch[-1]
        sums = torch.stack([loss, loss.new_tensor(n_targets)])
        reduced: Any = fabric.all_reduce(sums, reduce_op="sum")
        total, total_targets = reduced.tolist()
        self._require_convergence(total / total_targets, epoch)
        return {
            "train_loss": total / total_targets,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "interactions_per_second": total_targets / (time.perf_counter() - started),
        }

    def _require_convergence(self, loss: float, epoch: int) -> None:
        uniform = math.log(self.model.n_items)
        fault = ""
        if not loss <= _DIVERGED * max(uniform, 1.0):  # also true for NaN
            fault = f"the loss is {loss:.4g} in epoch {epoch}, that of a random guess {uniform:.4g}"
        elif not all(p.isfinite().all() for p in self.model.network.parameters()):
            fault = f"the parameters are not finite numbers after epoch {epoch}"
        if fault:
            saved = ""
            if self.folder and epoch > 1:
                saved = f"; {self.folder / CHECKPOINT} holds the state after epoch {epoch - 1}"
            rate = self.config.learning_rate
            raise TrainingError(f"{fault}: lower learning_rate (now {rate:g}){saved}")

    def _train_step(self, items_BL: Tensor, context_BP: Tensor, n_targets: int) -> Tensor:
        """One gradient step on a batch of `cut_batches`; returns its mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        draws = self.raw_loss.draw(items_BL, n_targets, self.generator)
        loss: Tensor = self.loss(items_BL, context_BP, n_targets, draws)
        fabric, clip = self.fabric, self.config.gradient_clip
        with _BACKWARD:
            fabric.backward(loss)
        # The loss is checked once per epoch.
        fabric.clip_gradients(self.loss, self.optimizer, max_norm=clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    def _generator_states(self) -> Tensor:
        """The state of the generator of each process, uint8 [n_processes, n]."""
        state = self.generator.get_state()
        if self.fabric.world_size == 1:
            return state[None]
        states = [
            torch.empty_like(state, device=self.device) for _ in range(self.fabric.world_size)
        ]
        torch.distributed.all_gather(states, state.to(self.device))
        return torch.stack(states).cpu()

    def _save(self) -> None:
        generators = self._generator_states()  # of all processes, although one saves them
        if self.folder is None or self.fabric.global_rank != 0:
            return
        optimizer = self.raw_optimizer.state_dict()["state"]
        groups = {
            "network": self.model.network.state_dict(),
            "best": self.best_parameters,
            "random": {"generators": generators},
            **{f"optimizer.{index}": named for index, named in optimizer.items()},
        }
        metadata = {
            "identity": self.identity,
            "step": self.step,
            "data_order": self.rng.bit_generator.state,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
        }
        save_checkpoint(self.folder, groups, metadata)

    def _resume(self) -> None:
        """Restore the state from the checkpoint of rank 0, if there is one."""
        checkpoint = None
        if self.folder and self.fabric.global_rank == 0:
            checkpoint = self._load_checkpoint(self.folder)
        checkpoint = self.fabric.broadcast(checkpoint)
        if checkpoint is None:
            return
        groups, metadata = checkpoint
        for name, value in self.identity.items():
            found = metadata["identity"].get(name)
            if found != value:
                raise ConfigError(
                    f"the checkpoint in {self.folder} belongs to another training: its {name} is "
                    f"{found!r}, here it is {value!r}; choose another folder, or delete it"
                )
        self.model.network.load_state_dict(groups["network"])
        state: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for key, tensor in groups["optimizer"].items():
            index, name = key.split(".")
            state[int(index)][name] = tensor
        self.raw_optimizer.load_state_dict(self.raw_optimizer.state_dict() | {"state": state})
        generators = groups["random"]["generators"]
        if self.fabric.global_rank < len(generators):  # there may be more processes now
            # A copy: torch 2.13 crashes if the state does not begin its storage.
            self.generator.set_state(generators[self.fabric.global_rank].clone())
        self.rng.bit_generator.state = metadata["data_order"]
        self.step = metadata["step"]
        self.epochs, self.best_epoch = metadata["epochs"], metadata["best_epoch"]
        self.best_parameters = groups["best"]
        self._tell(f"Training resumes after epoch {len(self.epochs)} of {self.n_epochs}.")

    def _load_checkpoint(self, folder: Path) -> Checkpoint | None:
        """The checkpoint of a folder, if there is one; a damaged one is renamed."""
        reason = f"no interrupted training left a checkpoint in {folder}"
        try:
            if checkpoint := load_checkpoint(folder):
                return checkpoint
        except DamagedCheckpointError as error:
            reason = f"{error}; it was renamed to {DAMAGED}"
            (folder / CHECKPOINT).replace(folder / DAMAGED)
        self._tell(f"Training starts from the first epoch: {reason}.")
        return None

    def _tell(self, message: str) -> None:
        if self.fabric.global_rank == 0:
            self.notify(message)


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
    """Linear warm-up by `step`; cosine decay to 5 % by `progress`, the share of the training."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    rate = config.learning_rate * warmup * (0.05 + 0.95 * cosine)
    for group in optimizer.param_groups:
        group["lr"] = rate
