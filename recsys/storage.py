"""Atomic files and folders, and manifests that verify them.

Everything is written to a temporary path in the folder of its target and then moved, so that a
killed process leaves no partial file. A manifest records the size and SHA-256 of each file of a
folder, and the SHA-256 of its own content. It is checked on reading. Nothing is pickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from recsys.errors import BundleError, ConfigError, RecsysError, StorageError

MANIFEST = "manifest.json"
_DIGEST = "sha256"

_FULL = "make room, and start again"
_DENIED = "make it writable for this user, or name another folder"
_FULL_DISK = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), and start again",
}
_REMEDIES = {
    **_FULL_DISK,
    errno.EROFS: _DENIED,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOTDIR: "a folder of its path is a file: name another folder",
    errno.EIO: "check the disk",
}
_ERROR_NUMBER = re.compile(r"os error (\d+)")
"""How the errors of safetensors, which are no `OSError`, end."""


def error_number(error: BaseException) -> int | None:
    """Return the `errno` of an error, or of the error that caused it; None if there is none."""
    if isinstance(error, OSError):
        return error.errno
    if found := _ERROR_NUMBER.search(str(error)):
        return int(found[1])
    return None if error.__cause__ is None else error_number(error.__cause__)


@contextmanager
def writing(target: Path | str) -> Iterator[None]:
    """Report that a file cannot be written in one line that names it.

    Raises:
        StorageError: the disk is full, or the path is read-only, of another user or unreadable.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, RecsysError) and not isinstance(error, StorageError):
            raise
        # A file of a folder that is being written is reported as the folder.
        number = error_number(error)
        if number not in _REMEDIES or not (number in _FULL_DISK or _concerns(error, Path(target))):
            raise
        reason = os.strerror(number)
        raise StorageError(f"{target} cannot be written: {reason}; {_REMEDIES[number]}") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal string."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_space(needs: Mapping[Path, int]) -> None:
    """Refuse to start what cannot end: raise a `StorageError` if a disk has too little room.

    Args:
        needs: the bytes that are written to each folder, at least. Folders need not exist.
    """
    by_disk: dict[int, list[tuple[Path, int]]] = defaultdict(list)
    for folder, n_bytes in needs.items():
        path = folder.absolute()
        existing = next(parent for parent in [path, *path.parents] if parent.exists())
        by_disk[existing.stat().st_dev].append((existing, n_bytes))
    for wanted in by_disk.values():
        folder, total = wanted[0][0], sum(n_bytes for _, n_bytes in wanted)
        if (free := shutil.disk_usage(folder).free) < total:
            raise StorageError(
                f"{folder}: {free / 1e6:,.1f} MB are free, and at least {total / 1e6:,.1f} MB are "
                "needed: make room, and start again"
            )


def _concerns(error: Exception, target: Path) -> bool:
    """Whether an error is about a target, its folder or a parent of it, not a file that is read."""
    name = getattr(error, "filename", None)
    if not isinstance(name, str):
        return True
    path, target = Path(name).absolute(), target.absolute()
    return path.is_relative_to(target.parent) or target.is_relative_to(path)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Write a file atomically: it is moved to `target` if the block ends without an error.

    Missing parent folders are created. Yields a temporary path to write to, of the same name.

    Raises:
        StorageError: The disk is full, or the path cannot be written.
    """
    with writing(target), _temporary_folder(target) as folder:
        tmp_path = Path(folder, target.name)
        yield tmp_path
        _finish([tmp_path], Path(folder))
        tmp_path.replace(target)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Write a folder atomically: it is moved to `target` if the block ends without an error.

    An existing folder is replaced if it is empty, or if all its files are in its manifest. Readers
    see the old folder, the new one or, for an instant, none, but never a mixture. Missing parent
    folders are created. Yields an empty temporary folder.

    Raises:
        ConfigError: There is a file at the path, or a folder with other files.
        StorageError: The disk is full, or the path cannot be written.
    """
    target = Path(os.path.realpath(target))
    _require_own(target)
    with writing(target), _temporary_folder(target) as folder:
        tmp_path = Path(folder, "new")
        tmp_path.mkdir()
        yield tmp_path
        _publish(Path(folder), target)


@contextmanager
def resumable_folder(target: Path, inputs: Mapping[str, Any]) -> Iterator[Path]:
    """`atomic_folder` whose files are kept if the block fails or the process is killed.

    The next call with equal `inputs`, which are JSON values, yields the folder with these files,
    of which those of `atomic_file` are complete. For other inputs it is empty again. Meanwhile it
    is `new` in the hidden folder `.<name>.unfinished` next to the target. Only one process may
    write to a target at a time.

    Raises:
        ConfigError: There is a file at the path, or a folder with other files.
        StorageError: The disk is full, or the path cannot be written.
    """
    target = Path(os.path.realpath(target))
    _require_own(target)
    work = target.with_name(f".{target.name}.unfinished")
    with writing(target):
        try:
            _resume(work, target, with_digest(inputs))
            yield work / "new"
            _publish(work, target)
        finally:
            if not any(work.glob("new/*")):  # published, or nothing is worth keeping
                shutil.rmtree(work, ignore_errors=True)


def _resume(work: Path, target: Path, inputs: Mapping[str, Any]) -> None:
    """Create the folder of unfinished files; clear it if it has those of other inputs."""
    if (work / "old").exists() and not target.exists():  # killed while it was replaced
        (work / "old").replace(target)
    shutil.rmtree(work / "old", ignore_errors=True)
    with suppress(BundleError):
        if read_json(work / "inputs.json").get(_DIGEST) == inputs[_DIGEST]:
            return
    shutil.rmtree(work, ignore_errors=True)
    (work / "new").mkdir(parents=True)
    write_json(work / "inputs.json", inputs)


def _publish(work: Path, target: Path) -> None:
    """Move `new`, a folder of `work`, to the target; what was there becomes `old`."""
    new, old = work / "new", work / "old"
    _finish([path for path in new.rglob("*") if path.is_file()], work)
    if target.exists():
        target.replace(old)
    new.replace(target)


@contextmanager
def folder_lock(path: Path, work: str, notify: Callable[[str], object]) -> Iterator[None]:
    """Hold a lock file; wait while another process does, and say so.

    The operating system releases the lock of a killed process.

    Args:
        path: The file, which stays.
        work: What who holds the lock does, as in "writes recommendations".
        notify: Called with a message before waiting.
    """
    from filelock import FileLock, Timeout  # not needed to read

    lock = FileLock(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            notify(f"Another process {work} (it holds {path}); waiting.")
            held = lock.acquire()
    with held:
        yield


def require_new(path: Path) -> Path:
    """Return the path of a new file; raise a `ConfigError` if something exists there."""
    if os.path.lexists(path):
        raise ConfigError(f"{path} already exists: name a new file, or remove it")
    return path


def _require_own(folder: Path) -> None:
    """Raise a `ConfigError` if a folder has files that are not in its manifest."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: name a new folder, or remove it")
    known: set[str] = set()
    for manifest in (MANIFEST, f"_{MANIFEST}"):
        with suppress(BundleError):
            known |= {manifest, *_read_manifest(folder, manifest)["files"]}
    for path in folder.rglob("*"):
        is_folder = path.is_dir() and not path.is_symlink()
        if not is_folder and path.relative_to(folder).as_posix() not in known:
            raise ConfigError(
                f"{path} is in the folder that would be replaced, but not in its manifest: name a "
                f"new folder instead of {folder}, or remove it"
            )


def _temporary_folder(target: Path) -> tempfile.TemporaryDirectory[str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}."
    return tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent, ignore_cleanup_errors=True)


def _finish(paths: Iterable[Path], folder: Path) -> None:
    """Write files to the disk, readable as the umask says: safetensors ignores it."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        probe = Path(name, "probe")
        probe.touch()
        mode = probe.stat().st_mode
    for path in paths:
        path.chmod(mode)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def installed_versions(*distributions: str) -> dict[str, str]:
    """Return the version of each distribution. Those that are not installed are left out."""
    versions = {}
    for name in distributions:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, indented and with sorted keys."""
    with atomic_file(path) as tmp_path:
        tmp_path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BundleError: the file is missing, cannot be read, or does not contain a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} is missing") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds a {type(content).__name__}, not a JSON object")
    return content


def write_arrays(path: Path, **arrays: np.ndarray[Any, Any]) -> None:
    """Write named arrays to an `.npz` file atomically. Object arrays are refused."""
    with atomic_file(path) as tmp_path:
        np.savez(tmp_path, allow_pickle=False, **arrays)


def read_arrays(path: Path, *required: str) -> dict[str, np.ndarray[Any, Any]]:
    """Read the named arrays of an `.npz` file that `write_arrays` wrote.

    The sizes that it declares are compared with that of the file before memory is allocated.

    Raises:
        BundleError: the file is missing or damaged, compressed, contains objects, or lacks a
            required array.
    """
    try:
        with ZipFile(path) as archive:
            return _read_members(archive, path.stat().st_size, required)
    except Exception as error:  # zipfile and numpy raise many kinds
        raise BundleError(f"{path} cannot be read: {error or type(error).__name__}") from error


def _read_members(
    archive: ZipFile, n_bytes: int, required: Iterable[str]
) -> dict[str, np.ndarray[Any, Any]]:
    members = archive.infolist()
    if missing := {f"{name}.npy" for name in required} - {member.filename for member in members}:
        raise ValueError(f"it has no {min(missing)}")
    if sum(member.file_size for member in members) > n_bytes:
        raise ValueError("its arrays are larger than the file")
    return {
        member.filename.removesuffix(".npy"): _read_array(archive, member) for member in members
    }


def _read_array(archive: ZipFile, member: ZipInfo) -> np.ndarray[Any, Any]:
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or not dtype.itemsize or size != member.file_size - file.tell():
            raise ValueError(f"{member.filename} holds objects, or has another size")
        file.seek(0)
        array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def write_manifest(folder: Path, *, manifest: str = MANIFEST, **metadata: Any) -> None:
    """Write a manifest: the size and SHA-256 of every file of `folder`, and `metadata`."""
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / manifest
    }
    write_json(folder / manifest, with_digest({**metadata, "files": files}))


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a manifest with `sha256`, the hash of everything else in it."""
    content = {name: value for name, value in content.items() if name != _DIGEST}
    return {**content, _DIGEST: _digest_of(content)}


def _digest_of(content: Mapping[str, Any]) -> str | None:
    try:
        text = json.dumps(content, sort_keys=True)
    except RecursionError:  # not from `write_manifest`
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def _read_manifest(folder: Path, manifest: str) -> dict[str, Any]:
    content = read_json(folder / manifest)
    files = content.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(recorded, dict) and "sha256" in recorded for recorded in files.values()
    ):
        raise BundleError(f"{folder / manifest} has no list of files with their SHA-256")
    return content


def verify_manifest(folder: Path, manifest: str = MANIFEST) -> dict[str, Any]:
    """Check a manifest, and every file of `folder` against it, and return the manifest.

    Raises:
        BundleError: the manifest is missing, invalid or altered, or a file is missing, outside of
            the folder, or altered.
    """
    content = _read_manifest(folder, manifest)
    if content.pop(_DIGEST, "") != _digest_of(content):
        raise BundleError(
            f"{folder / manifest} does not match its own SHA-256: it was altered or damaged, or is "
            "of an older version of recsys; save or download it again"
        )
    for name, recorded in content["files"].items():
        try:
            _verify(folder, name, recorded["sha256"], manifest)
        except OSError as error:
            raise BundleError(f"{folder / name} cannot be read: {error}") from error
    return content


def _verify(folder: Path, name: str, sha256: object, manifest: str) -> None:
    path = folder / name
    if not path.is_file():
        raise BundleError(f"{path} is listed in {manifest} but missing")
    # Refuse "../name" and links: a verified file is inside the folder.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path} is outside of {folder}")
    if sha256_of(path) != sha256:
        raise BundleError(
            f"{path} does not match its SHA-256 in {manifest}: it was altered or damaged; "
            "save or download it again"
        )
