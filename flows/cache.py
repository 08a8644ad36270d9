"""Results that later runs reuse: the folders `data/cache/<kind>/<key>`.

A key is a hash of everything that the result depends on: data, settings and the library's code.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import BaseModel

import recsys
from recsys.data.layouts import QUARANTINE_SUFFIX
from recsys.errors import BundleError, DataError
from recsys.storage import sha256_of, verify_manifest

DATA_DIR = Path("data")
CACHE_DIR = DATA_DIR / "cache"
Kind = Literal["counts", "embeddings", "reports", "interactions", "checkpoints"]


def cache_path(kind: Kind, key: str) -> Path:
    """The folder of a result."""
    return CACHE_DIR / kind / key


def cache_key(**inputs: Any) -> str:
    """Hex SHA-256 of inputs by name: configurations and JSON values."""
    return _sha256(
        {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in inputs.items()
        }
    )


def hash_files(path: Path) -> str:
    """Hex SHA-256 of a file, or of the names and contents of the files in a folder.

    Hidden files are skipped, and so are quarantined rows, which reading itself writes.

    Raises:
        DataError: the path does not exist.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not path.is_dir():
        return sha256_of(path)
    return _sha256(
        {
            file.relative_to(path).as_posix(): sha256_of(file)
            for file in path.rglob("*")
            if file.is_file()
            and not file.name.startswith(".")
            and not file.name.endswith(QUARANTINE_SUFFIX)
        }
    )


@cache
def source_hash() -> str:
    """Hex SHA-256 of the library's code without comments, docstrings and formatting.

    Prefect's own TASK_SOURCE covers the body of a task, but not the functions that it calls.
    """
    folder = Path(recsys.__file__).parent
    return _sha256(
        {
            path.relative_to(folder).as_posix(): normalize_source(path.read_text("utf-8"))
            for path in folder.rglob("*.py")
        }
    )


def normalize_source(code: str) -> str:
    """The syntax tree of Python code, without docstrings, as text."""
    return ast.dump(_DocstringRemover().visit(ast.parse(code)))


class _DocstringRemover(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def run_cached(
    name: str, write: Callable[[], object], *folders: Path, tags: tuple[str, ...] = ()
) -> bool:
    """Run a task that writes folders with manifests, unless all of them are there and valid.

    Returns whether they were. In that case the state of the task run is "Cached".
    """
    fault = _find_fault(folders)
    if fault and any(folder.exists() for folder in folders):
        get_run_logger().warning("The cached result is invalid and is computed again: %s", fault)

    @task(cache_policy=NO_CACHE, task_run_name=name, tags=tags)
    def compute() -> State[None] | None:
        if fault is None:
            return Completed(name="Cached", message="The result was in the cache.")
        write()
        return None

    compute()
    return fault is None


def is_valid(*folders: Path) -> bool:
    """Whether all folders exist, with the contents that their manifests record."""
    return _find_fault(folders) is None


def cache_tags(folder: Path) -> dict[str, str]:
    """The MLflow tags of a run whose result came from the cache."""
    return {"cached_from": folder.as_posix()}


def _find_fault(folders: Iterable[Path]) -> BundleError | None:
    try:
        for folder in folders:
            verify_manifest(folder)
    except BundleError as error:
        return error
    return None
