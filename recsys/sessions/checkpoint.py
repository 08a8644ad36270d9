"""The state of a training in one safetensors file, from which it can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.errors import TrainingError
from recsys.storage import atomic_file

CHECKPOINT = "training.safetensors"
DAMAGED = f"{CHECKPOINT}.damaged"
"""Name that a damaged checkpoint is given, so that training can start again."""

_FORMAT = "2"
"""Version of the format, to be changed with the content or its meaning."""

Checkpoint = tuple[dict[str, dict[str, Tensor]], dict[str, Any]]
"""Groups of tensors, and plain values."""


class DamagedCheckpointError(TrainingError):
    """A file that is not a checkpoint of this version, or does not match its own SHA-256."""


def save_checkpoint(
    folder: Path, groups: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, Any]
) -> None:
    """Write groups of tensors and plain values into a folder; replaces an older file atomically."""
    tensors = {
        f"{group}.{name}": tensor.cpu().contiguous()
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    text = json.dumps(metadata)
    header = {"format": _FORMAT, "training": text, "sha256": _sha256(tensors, text)}
    with atomic_file(folder / CHECKPOINT) as tmp_path:
        save_file(tensors, tmp_path, metadata=header)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the groups, named up to the first dot, and the plain values; None without a file.

    Raises:
        DamagedCheckpointError: the file is not a checkpoint of this version, or does not match its
            SHA-256.
        TrainingError: the file cannot be read.
    """
    path = folder / CHECKPOINT
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if _sha256(tensors, header["training"]) != header["sha256"]:
            raise DamagedCheckpointError(f"{path} does not match its SHA-256")
        if header.get("format") != _FORMAT:
            raise DamagedCheckpointError(f"{path} is of another version of recsys")
        metadata = json.loads(header["training"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedCheckpointError(f"{path} is not a checkpoint: {error}") from error
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        group, name = key.split(".", 1)
        groups[group][name] = tensor
    return groups, metadata


def _sha256(tensors: Mapping[str, Tensor], text: str) -> str:
    """Hex SHA-256 of names, types, shapes and bytes of all tensors, and of the plain values."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
