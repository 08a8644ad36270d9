"""The state of a training in one safetensors file, from which it can be resumed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.errors import TrainingError
from recsys.storage import atomic_file

CHECKPOINT = "training.safetensors"


def save_checkpoint(
    folder: Path, groups: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, Any]
) -> None:
    """Write groups of tensors and plain values into a folder; replaces an older file atomically."""
    tensors = {
        f"{group}.{name}": tensor.cpu().contiguous()
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    with atomic_file(folder / CHECKPOINT) as tmp_path:
        save_file(tensors, tmp_path, metadata={"training": json.dumps(metadata)})


def load_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """Read the groups, named up to the first dot, and the plain values; None without a file.

    Raises:
        TrainingError: the file is not a checkpoint or is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["training"])
            for key in file.keys():  # noqa: SIM118
                group, name = key.split(".", 1)
                groups[group][name] = file.get_tensor(key)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise TrainingError(
            f"{path} cannot be read as a checkpoint ({error}): delete it to train from the start"
        ) from error
    return groups, metadata
