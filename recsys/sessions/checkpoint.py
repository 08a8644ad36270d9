"""The state of a training in one safetensors file, from which it can be resumed."""

from __future__ import annotations

import json
from collections import defaultdict
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

    groups: Mapping[str, Mapping[str, Tensor]]  # network, best epoch, optimizer, random generators
    metadata: Mapping[str, Any]  # plain values: identity, step, data order, history


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into its folder; it replaces an older one atomically."""
    tensors = {
        f"{group}.{name}": tensor.cpu().contiguous()
        for group, named in checkpoint.groups.items()
        for name, tensor in named.items()
    }
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
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[_HEADER])
            for key in file.keys():  # noqa: SIM118
                group, name = key.split(".", 1)
                groups[group][name] = file.get_tensor(key)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise TrainingError(
            f"{path} cannot be read as a checkpoint ({error}): delete it to train from the start"
        ) from error
    return Checkpoint(groups, metadata)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts of an optimizer, as `<parameter index>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": tensor for i, named in state.items() for name, tensor in named.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the result of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state[int(index)][name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def rng_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's global random number generators."""
    cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def restore_rng(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Load the result of `rng_tensors`."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
