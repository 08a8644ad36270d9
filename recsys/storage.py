"""Files and folders that are either whole or not there.

Everything is written beside its target and moved into place, so that a process killed
half-way leaves no file that looks finished. A folder carries a manifest with the size and
SHA-256 of each of its files, checked when it is read. Nothing is ever pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recsys.errors import BundleError

MANIFEST = "manifest.json"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Give a path to write to; move it to `target` when the block ends without an error.

    Args:
        target: where the finished file shall be; its folder is made if need be.

    Yields:
        A path in the same folder, not yet existing, with the same suffix.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        draft = folder / target.name
        yield draft
        _flush_to_disk(draft)
        draft.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; move it to `target` when the block ends without an error.

    An older folder at `target` is replaced: it is moved aside first, so that readers see the
    old one, the new one or, for an instant, none, but never a mixture.

    Args:
        target: where the finished folder shall be.

    Yields:
        An empty folder beside `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        draft = work / "new"
        draft.mkdir()
        yield draft
        for path in draft.rglob("*"):
            if path.is_file():
                _flush_to_disk(path)
        if target.exists():
            target.replace(work / "old")
        draft.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BundleError: the file is missing or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} is missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds a {type(content).__name__}, not a JSON object")
    return content


def write_arrays(path: Path, **arrays: np.ndarray[Any, Any]) -> None:
    """Write named arrays as `.npz`, atomically; object arrays are refused."""
    with atomic_file(path) as draft:
        np.savez(draft, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read the named arrays of an `.npz` file; object arrays are refused."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def write_manifest(folder: Path, *, manifest: str = MANIFEST, **facts: Any) -> None:
    """Record every file of `folder` with its size and SHA-256, and `facts`, in a manifest."""
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / manifest
    }
    write_json(folder / manifest, {**facts, "files": files})


def verify_manifest(folder: Path, manifest: str = MANIFEST) -> dict[str, Any]:
    """Check every file of `folder` against its manifest and return the manifest.

    Raises:
        BundleError: no manifest, one that lists no files, or a file is missing, lies outside of
            the folder, or has other bytes than recorded.
    """
    content = read_json(folder / manifest)
    files = content.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(recorded, dict) and "sha256" in recorded for recorded in files.values()
    ):
        raise BundleError(f"{folder / manifest} lists no files with their SHA-256")
    for name, recorded in files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is named in {manifest} but is missing")
        # Neither "../name" nor a link: what is verified is in the folder.
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BundleError(f"{path} leads out of the folder: a bundle holds its files itself")
        if sha256_of(path) != recorded["sha256"]:
            raise BundleError(
                f"{path} does not have the bytes that {manifest} records: "
                "it was altered or damaged; save or fetch it again"
            )
    return content
