"""The state of a training in one safetensors file, from which it can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.errors import TrainingError
from recsys.storage import atomic_file

CHECKPOINT = "training.safetensors"
_HEADER = "training"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a training needs to be resumed."""

    tensors: Mapping[str, Tensor]
    """By name, as `<group>.<name>`."""
    metadata: Mapping[str, Any]
    """Plain values: identity, step, data order, history."""

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors of a group, by name without the group."""
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into its folder; it replaces an older one atomically."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    with atomic_file(folder / CHECKPOINT) as tmp_path:
        save_file(tensors, tmp_path, metadata={_HEADER: json.dumps(dict(checkpoint.metadata))})


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the checkpoint of a folder; None if there is none.

    Raises:
        TrainingError: the file is not a checkpoint or is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Checkpoint(tensors, metadata)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise TrainingError(
            f"{path} cannot be read as a checkpoint ({error}): delete it to train from the start"
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts of an optimizer, as `<parameter index>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": tensor
        for index, entries in state.items()
        for name, tensor in entries.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the result of `optimizer_tensors`."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": entries})


def rng_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's global random number generators."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_rng(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Load the result of `rng_tensors`."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
