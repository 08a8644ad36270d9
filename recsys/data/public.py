"""Public data sets: fetched once, checked byte for byte, unpacked safely.

What is known of each stands in `sources.toml`. An archive is unpacked only if its size and
SHA-256 are those on record there; the folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import stat
import sys
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import IO, Final

import httpx
from pydantic import Field
from rich.console import Console
from rich.progress import DownloadColumn, Progress

from recsys.config import Config
from recsys.data.synthetic import write_sample
from recsys.errors import DownloadError, NetworkError
from recsys.storage import atomic_folder

DEFAULT_SOURCE: Final = "ml-latest-small"
SAMPLE_FOLDER: Final = "synthetic-sample"

_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
# Uncompressed: what is counted and hashed is what comes over the wire.
_HEADERS: Final = {"Accept-Encoding": "identity"}


class Source(Config):
    """A public data set: where it is, how to know it, and on what terms it may be used."""

    name: str
    """The name of the folder that it becomes."""
    title: str
    """What it is, in one line."""
    home: str
    """The page about it."""
    url: str
    """The zip archive, with one folder at its top."""
    bytes: int = Field(gt=0)
    """Size of the archive."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the archive, in hex."""
    max_members: int = Field(gt=0)
    """Files and folders that the archive may hold at most."""
    max_unpacked_bytes: int = Field(gt=0)
    """Bytes that the archive may unpack to at most."""
    licence: str
    """The terms of use, in short, and what to cite."""


def public_sources() -> dict[str, Source]:
    """List the data sets that `fetch` knows, by name."""
    text = resources.files("recsys.data").joinpath("sources.toml").read_text(encoding="utf-8")
    facts = tomllib.loads(text)
    return {name: Source(name=name, **facts[name]) for name in facts}


def _to_stderr(message: str) -> None:
    sys.stderr.write(message + "\n")


def fetch(
    name: str,
    folder: Path,
    *,
    notify: Callable[[str], None] = _to_stderr,
    sources: Mapping[str, Source] | None = None,
) -> Path:
    """Give the folder of a public data set, downloading it if it is not there.

    Args:
        name: the name of the data set, as in `public_sources()`.
        folder: the folder that shall hold the data set's own folder.
        notify: is told the terms of use, once, when the data set has been downloaded.
        sources: the data sets to choose from; `public_sources()` if not given.

    Returns:
        `folder / name`.

    Raises:
        NetworkError: the network or the server gave no complete answer.
        DownloadError: the data set is unknown, cannot be had, is not what it should be, or
            cannot be written.
    """
    known = public_sources() if sources is None else sources
    if name not in known:
        raise DownloadError(f"no public data set is called {name!r}; there are {', '.join(known)}")
    source, target = known[name], folder / name
    try:
        if target.is_dir() and any(target.iterdir()):
            return target
        if target.exists() and not target.is_dir():
            raise DownloadError(f"{target} is a file, not a folder: move it away and try again")
        with tempfile.TemporaryFile() as archive:
            _download(source, archive)
            notify(f"{source.title}\n{source.home}\n{source.licence.strip()}")
            with atomic_folder(target) as draft:
                _unpack(archive, draft, source)
    except OSError as error:
        raise DownloadError(f"{target} cannot be written: {error}") from error
    return target


def default_source(
    folder: Path,
    notify: Callable[[str], None] = _to_stderr,
    *,
    sources: Mapping[str, Source] | None = None,
) -> Path:
    """Give ratings to start with: MovieLens Latest Small or, without a network, made-up ones.

    Args:
        folder: the folder that holds, or shall hold, the data set's own folder.
        notify: is told the terms of use, or why the ratings are made up.
        sources: as for `fetch`.

    Returns:
        `folder / "ml-latest-small"` or `folder / "synthetic-sample"`.

    Raises:
        DownloadError: as `fetch`, except for want of a network: made-up ratings never stand in
            for a data set that came with the wrong bytes.
    """
    try:
        return fetch(DEFAULT_SOURCE, folder, notify=notify, sources=sources)
    except NetworkError as error:
        sample = folder / SAMPLE_FOLDER
        if not sample.is_dir():
            write_sample(sample)
        reason = " ".join(str(error).split())
        notify(f"using made-up ratings in {sample} instead of {DEFAULT_SOURCE}: {reason}")
        return sample


def _download(source: Source, archive: IO[bytes]) -> None:
    """Write the archive's bytes to a file and check that they are the ones on record."""
    digest, n_bytes = hashlib.sha256(), 0
    with _progress_bar() as bar, closing(_stream(source.url)) as chunks:
        task = bar.add_task(source.name, total=source.bytes)
        for chunk in chunks:
            n_bytes += len(chunk)
            if n_bytes > source.bytes:
                raise _unexpected(source, f"more than the {source.bytes} bytes on record")
            digest.update(chunk)
            archive.write(chunk)
            bar.advance(task, len(chunk))
    if n_bytes < source.bytes:
        raise _unexpected(source, f"{n_bytes} bytes, not the {source.bytes} on record")
    if (found := digest.hexdigest()) != source.sha256:
        raise _unexpected(source, f"SHA-256 {found}, not the {source.sha256} on record")


def _progress_bar() -> Progress:
    columns = (*Progress.get_default_columns(), DownloadColumn())
    stderr = Console(stderr=True)
    return Progress(*columns, console=stderr, disable=not sys.stderr.isatty(), transient=True)


def _stream(url: str) -> Generator[bytes, None, None]:
    try:
        with (
            httpx.Client(headers=_HEADERS, timeout=_TIMEOUT, follow_redirects=True) as client,
            client.stream("GET", url) as response,
        ):
            response.raise_for_status()
            yield from response.iter_raw()
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        kind = NetworkError if code >= httpx.codes.INTERNAL_SERVER_ERROR else DownloadError
        remedy = "try again later, or see whether the address is still right"
        raise kind(f"{url} could not be fetched: the server answered {code}; {remedy}") from error
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise NetworkError(
            f"{url} could not be fetched: {reason}; check the network connection and try again"
        ) from error
    # Bad proxy or certificate settings come as an ImportError, a ValueError or an OSError.
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError, OSError) as error:
        raise DownloadError(
            f"{url} could not be fetched: {error}; check the address and the proxy settings"
        ) from error


def _unpack(archive: IO[bytes], draft: Path, source: Source) -> None:
    """Write the files under the archive's top folder to `draft`, trusting nothing it says."""
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


def _unexpected(source: Source, what: str) -> DownloadError:
    remedy = f"something on the way altered it, or its makers did; try again, or see {source.home}"
    return DownloadError(f"{source.url} gave {what}: {remedy}")


def _unsafe(source: Source, what: str) -> DownloadError:
    return DownloadError(f"{source.url} holds {what}; nothing was unpacked: see {source.home}")
