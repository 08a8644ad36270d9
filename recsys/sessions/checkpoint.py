"""The state of a training in one file, so that it can be taken up again where it was.

One safetensors file: tensors, and a JSON object in its header. It replaces the one before it in
a single step, so that whenever a process is killed, a whole checkpoint is there.
"""

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
    """What a training needs to go on."""

    tensors: Mapping[str, Tensor]
    """By name; the part before the first dot says whose they are."""
    facts: Mapping[str, Any]
    """Plain values: epoch, data order, results so far."""

    def part(self, owner: str) -> dict[str, Tensor]:
        """The tensors of one owner, without its name."""
        prefix = f"{owner}."
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Put a checkpoint into its folder, in place of the one that is there."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    with atomic_file(folder / CHECKPOINT) as draft:
        save_file(tensors, draft, metadata={_HEADER: json.dumps(dict(checkpoint.facts))})


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the checkpoint of a folder; None where there is none yet.

    Raises:
        TrainingError: the file is not a checkpoint, or is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_HEADER])
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, facts)  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise TrainingError(
            f"{path} cannot be read as a checkpoint ({error}): remove it to train anew"
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments and step counts, as `<parameter's position>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{position}.{name}": tensor
        for position, entries in state.items()
        for name, tensor in entries.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        position, name = key.split(".", 1)
        entries.setdefault(int(position), {})[name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": entries})


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's global generators."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what `random_tensors` gave."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
