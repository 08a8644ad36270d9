"""Public data sets, listed in `sources.toml`: downloaded on first use, verified, extracted."""

from __future__ import annotations

import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from pydantic import Field

from recsys.config import Config
from recsys.data.synthetic import write_sample
from recsys.errors import ConfigError, DownloadError, NetworkError, first_cause, requires
from recsys.storage import atomic_folder

DEFAULT_SOURCE: Final = "ml-latest-small"
SAMPLE: Final = "synthetic-sample"
"""Folder of the synthetic ratings that replace it without a network."""

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
                with atomic_folder(target) as extracted:
                    _extract(archive, extracted)
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
        sample = folder / SAMPLE
        if not sample.is_dir():
            write_sample(sample)
        reason = " ".join(str(error).split())
        notify(f"using synthetic ratings in {sample} instead of {DEFAULT_SOURCE}: {reason}")
        return sample


def _download(source: Source, folder: Path) -> Path:
    """Download an archive and verify its SHA-256."""
    with requires("train"):
        import pooch
        from requests import exceptions

    download = pooch.HTTPDownloader(sys.stderr.isatty(), chunk_size=1 << 16, timeout=_TIMEOUT)
    pooch.get_logger().setLevel("WARNING")
    failed = f"{source.url} could not be fetched"
    try:
        path = pooch.retrieve(source.url, source.sha256, "archive.zip", folder, downloader=download)
    except exceptions.HTTPError as error:
        code = 0 if error.response is None else error.response.status_code
        kind = NetworkError if code >= 500 else DownloadError
        raise kind(f"{failed}: the server answered {code}; try again later") from error
    except (exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError) as e:
        raise NetworkError(
            f"{failed}: {_reason(e)}; check the network connection and try again"
        ) from e
    except exceptions.RequestException as error:
        raise DownloadError(f"{failed}: {error}; check the address and the proxy") from error
    except ValueError as error:
        raise DownloadError(
            f"{source.url} gave other content than recorded ({error}): it was altered in transit "
            f"or replaced by its makers; try again, or see {source.home}"
        ) from error
    return Path(path)


def _reason(error: Exception) -> str:
    """Why a connection failed, without the addresses and classes that requests repeats."""
    cause = first_cause(error)
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _extract(archive: Path, folder: Path) -> None:
    """Extract what is below the top-level folder of an archive, which is as it was recorded."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as tmp_path:
        shutil.unpack_archive(archive, tmp_path)
        (top,) = Path(tmp_path).iterdir()
        for path in top.iterdir():
            path.rename(folder / path.name)
