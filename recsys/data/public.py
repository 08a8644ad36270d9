"""Public data sets, listed in `sources.toml`: downloaded on first use, verified, extracted."""

from __future__ import annotations

import io
import shutil
import stat
import sys
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from pydantic import Field

from recsys.config import Config
from recsys.data.synthetic import write_sample
from recsys.errors import ConfigError, DownloadError, NetworkError, requires
from recsys.storage import atomic_folder

DEFAULT_SOURCE: Final = "ml-latest-small"

_TIMEOUT: tuple[float, float] = (10.0, 30.0)
"""Seconds to wait for a connection, and for the next bytes."""


class Source(Config):
    """A public data set: a zip archive with a single top-level folder."""

    name: str
    """Name of its folder."""
    title: str
    home: str
    url: str
    bytes: int = Field(gt=0)
    """Size of the archive."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    max_members: int = Field(gt=0)
    """Maximum number of files and folders in the archive."""
    max_unpacked_bytes: int = Field(gt=0)
    licence: str
    """Terms of use in short, and the work to cite."""


def public_sources() -> dict[str, Source]:
    """The data sets that `fetch` knows, by name."""
    text = resources.files("recsys.data").joinpath("sources.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    licences = content["licences"]
    return {
        name: Source(name=name, **entry | {"licence": licences[entry["licence"]]})
        for name, entry in content["sources"].items()
    }


def _print_to_stderr(message: str) -> None:
    sys.stderr.write(message + "\n")


def is_present(folder: Path) -> bool:
    """Whether the folder of a data set exists and is not empty."""
    return folder.is_dir() and any(folder.iterdir())


def fetch(
    name: str,
    folder: Path,
    *,
    notify: Callable[[str], None] = _print_to_stderr,
    sources: Mapping[str, Source] | None = None,
) -> Path:
    """Return the folder `folder / name` of a public data set, and download it if necessary.

    `notify` is called with the terms of use after a download.

    Raises:
        NetworkError: The network or the server failed; try again later.
        DownloadError: The data set is unknown, unavailable, not as recorded, or cannot be written.
    """
    known = public_sources() if sources is None else sources
    if name not in known:
        raise DownloadError(f"no public data set {name!r}; choose from {', '.join(known)}")
    source, target = known[name], folder / name
    try:
        if target.exists() and not target.is_dir():
            raise DownloadError(f"{target} is a file, not a folder: move it away and try again")
        if not is_present(target):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as tmp_path:
                archive = _download(source, Path(tmp_path))
                notify("\n".join((source.title, source.home, source.licence.strip())))
                with atomic_folder(target) as extracted, archive.open("rb") as content:
                    _extract(content, extracted, source)
    except (OSError, ConfigError) as error:
        if is_present(target):  # another process was faster
            return target
        if isinstance(error, ConfigError):
            raise
        raise DownloadError(f"{target} cannot be written: {error}") from error
    return target


def default_source(
    folder: Path,
    notify: Callable[[str], None] = _print_to_stderr,
    *,
    sources: Mapping[str, Source] | None = None,
) -> Path:
    """Return the folder of MovieLens Latest Small or, without a network, of synthetic ratings.

    The arguments are those of `fetch`; `notify` also gets the reason for synthetic ratings. Only a
    `NetworkError` leads to them; other errors of `fetch` are raised.
    """
    try:
        return fetch(DEFAULT_SOURCE, folder, notify=notify, sources=sources)
    except NetworkError as error:
        sample = folder / "synthetic-sample"
        if not sample.is_dir():
            write_sample(sample)
        reason = " ".join(str(error).split())
        notify(f"using synthetic ratings in {sample} instead of {DEFAULT_SOURCE}: {reason}")
        return sample


def _download(source: Source, folder: Path) -> Path:
    """Download an archive and verify its size and SHA-256."""
    with requires("train"):
        import pooch
        from requests import exceptions

    def download(url: str, output_file: str, pup: Any) -> None:
        has_terminal = sys.stderr.isatty()
        http = pooch.HTTPDownloader(has_terminal, chunk_size=1 << 16, timeout=_TIMEOUT)
        with _LimitedFile(output_file, source) as file:
            http(url, file, pup)
            if file.tell() != source.bytes:
                raise _unexpected(source, f"{file.tell()} bytes instead of {source.bytes}")

    pooch.get_logger().setLevel("WARNING")
    failed = f"{source.url} could not be fetched"
    try:
        path = pooch.retrieve(source.url, source.sha256, "archive.zip", folder, downloader=download)
    except exceptions.HTTPError as error:
        code = 0 if error.response is None else error.response.status_code
        kind = NetworkError if code >= 500 else DownloadError
        raise kind(f"{failed}: the server answered {code}; try again later") from error
    except (exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError) as e:
        raise NetworkError(f"{failed}: {e}; check the network connection and try again") from e
    except exceptions.RequestException as error:
        raise DownloadError(f"{failed}: {error}; check the address and the proxy") from error
    except ValueError as error:
        raise _unexpected(source, f"other content than recorded ({error})") from error
    return Path(path)


class _LimitedFile(io.FileIO):
    """A file that refuses more bytes than the archive has."""

    def __init__(self, path: str, source: Source) -> None:
        super().__init__(path, "wb")
        self._source = source

    def write(self, chunk: Any) -> int:
        """Write a chunk; raise a `DownloadError` if the file gets too large."""
        if self.tell() + len(chunk) > self._source.bytes:
            raise _unexpected(self._source, f"more than {self._source.bytes} bytes")
        return super().write(chunk)


def _unexpected(source: Source, content: str) -> DownloadError:
    return DownloadError(
        f"{source.url} gave {content}: it was altered in transit or replaced by its makers; try "
        f"again, or see {source.home}"
    )


def _extract(content: IO[bytes], folder: Path, source: Source) -> None:
    """Extract the files below the top-level folder of an untrusted archive."""
    try:
        with zipfile.ZipFile(content) as archive:
            members, limit = archive.infolist(), source.max_unpacked_bytes
            if len(members) > source.max_members:
                raise _unsafe(source, f"more than {source.max_members} members")
            if sum(member.file_size for member in members) > limit:  # none gives more than this
                raise _unsafe(source, f"more than {limit} bytes after extraction")
            files = {_safe_path(file, source): file for file in members if not file.is_dir()}
            top_folders = {path.parent.parts[:1] for path in files}
            if len(top_folders) != 1 or () in top_folders:
                raise _unsafe(source, "not exactly one top-level folder")
            for path, file in files.items():
                target = folder.joinpath(*path.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(file) as compressed, target.open("xb") as output:
                    shutil.copyfileobj(compressed, output)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise _unsafe(source, f"content that cannot be extracted ({error})") from error


def _safe_path(member: zipfile.ZipInfo, source: Source) -> PurePosixPath:
    name, path = member.filename, PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or {"\\", ":"} & set(name):
        raise _unsafe(source, f"{name!r}, which would be outside its folder")
    # Zero: archived on a system that does not record the type of a file.
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise _unsafe(source, f"{name!r}, which is a link or a device")
    # Other methods have no bound on how much a single read decompresses.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _unsafe(source, f"{name!r}, which is not compressed with deflate")
    return path


def _unsafe(source: Source, content: str) -> DownloadError:
    return DownloadError(f"{source.url} holds {content}; nothing was extracted: see {source.home}")
