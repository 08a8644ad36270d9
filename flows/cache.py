"""Results that later runs reuse: the folders `data/cache/<kind>/<key>`.

A key is a hash of everything that the result depends on: data, settings and the library's code.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import BaseModel

import recsys
from flows.best_effort import run_limited
from recsys.data.detection import detect_layout
from recsys.data.options import ReadOptions
from recsys.errors import BundleError
from recsys.storage import sha256_of, verify_manifest
from recsys.tracking import Run

DATA_DIR = Path("data")
CACHE_DIR = DATA_DIR / "cache"
Kind = Literal["counts", "embeddings", "reports", "interactions", "checkpoints"]


def cache_path(kind: Kind, key: str) -> Path:
    """The folder of a result."""
    return CACHE_DIR / kind / key


def cache_key(**inputs: Any) -> str:
    """Hex SHA-256 of inputs by name: configurations and JSON values."""
    to_json = partial(BaseModel.model_dump, mode="json")
    content = json.dumps(inputs, sort_keys=True, default=to_json)
    return hashlib.sha256(content.encode()).hexdigest()


def hash_files(path: Path, options: ReadOptions = ReadOptions()) -> str:
    """Hex SHA-256 of an archive, or of the names and contents of the files that are read."""
    detected = detect_layout(path, options)
    folder, names = detected.files.path, [*detected.ratings, detected.catalogue]
    if not folder.is_dir():
        return sha256_of(path)
    return cache_key(**{name: sha256_of(folder / name) for name in names if name is not None})


@cache
def source_hash() -> str:
    """Hex SHA-256 of the library's code.

    Prefect's own TASK_SOURCE covers the body of a task, but not the functions that it calls.
    """
    folder = Path(recsys.__file__).parent
    files = sorted(folder.rglob("*.py"))
    return cache_key(**{path.relative_to(folder).as_posix(): sha256_of(path) for path in files})


def run_cached(
    name: str,
    folder: Path,
    write: Callable[[], object],
    run: Run,
    parts: tuple[str, ...] = ("",),
    tags: tuple[str, ...] = (),
) -> bool:
    """Run a task that writes the `parts` of a folder, unless they match their manifests.

    Returns whether they do. If so, the state of the task run is "Cached", and the MLflow run has
    the tag `cached_from`.
    """
    fault = find_fault(folder, parts)
    run.tag_cache(folder)
    if fault is None:
        run.set_tags({"cached_from": folder.as_posix()})
    elif folder.exists():
        get_run_logger().warning("The cached result is invalid and is computed again: %s", fault)
        discard(folder)

    @task(cache_policy=NO_CACHE, task_run_name=name, tags=tags)
    def compute() -> State[None] | None:
        if fault is None:
            return Completed(name="Cached", message="The result was in the cache.")
        write()
        return None

    run_limited(compute)
    return fault is None


def discard(folder: Path) -> None:
    """Remove a cached result: a folder whose manifest is damaged would not be replaced."""
    if folder.is_dir():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def find_fault(folder: Path, parts: tuple[str, ...] = ("",)) -> BundleError | None:
    """The first mismatch between the parts of a folder and their manifests."""
    try:
        for part in parts:
            verify_manifest(folder / part)
    except BundleError as error:
        return error
    return None
