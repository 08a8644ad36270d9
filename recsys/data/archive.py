"""Unpacking an archive that may hold anything: links, paths that lead elsewhere, endless files."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from recsys.data.sources import Source
from recsys.errors import DownloadError


def unpack(archive: IO[bytes], draft: Path, source: Source) -> None:
    """Write the files under the archive's top folder to `draft`, trusting nothing it says.

    Args:
        archive: the bytes of a zip archive.
        draft: an empty folder.
        source: bounds what the archive may hold.

    Raises:
        DownloadError: the archive is none, or holds what it should not; files may have been
            written to `draft` by then.
    """
    try:
        with zipfile.ZipFile(archive) as unzipped:
            members = unzipped.infolist()
            if len(members) > source.max_members:
                raise _unsafe(source, f"more than {source.max_members} members")
            files = {_safe_path(file, source): file for file in members if not file.is_dir()}
            tops = {path.parent.parts[:1] for path in files}
            if len(tops) != 1 or () in tops:
                raise _unsafe(source, "not exactly one folder at its top")
            room = source.max_unpacked_bytes
            for path, file in files.items():
                with unzipped.open(file) as packed:
                    room -= _write(packed, draft.joinpath(*path.parts[1:]), room, source)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise _unsafe(source, f"something that cannot be unpacked ({error})") from error


def _safe_path(member: zipfile.ZipInfo, source: Source) -> PurePosixPath:
    name, path = member.filename, PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or {"\\", ":"} & set(name):
        raise _unsafe(source, f"{name!r}, which would land outside its folder")
    # Zero: packed on a system that does not record what kind of file it is.
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise _unsafe(source, f"{name!r}, which is a link or a device")
    # Other methods decompress without a bound on how much comes out at once.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _unsafe(source, f"{name!r}, which is not packed with deflate")
    return path


def _write(packed: IO[bytes], target: Path, room: int, source: Source) -> int:
    """Write one file and return its size, counted and not as the archive declares it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    n_bytes = 0
    with target.open("xb") as file:
        while chunk := packed.read(64 * 1024):
            n_bytes += len(chunk)
            if n_bytes > room:
                raise _unsafe(source, f"more than {source.max_unpacked_bytes} bytes unpacked")
            file.write(chunk)
    return n_bytes


def _unsafe(source: Source, what: str) -> DownloadError:
    return DownloadError(f"{source.url} holds {what}; nothing was unpacked: see {source.home}")
