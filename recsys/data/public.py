"""Public data sets: fetched once, checked byte for byte, unpacked safely.

What is known of each stands in `sources.toml`. An archive is unpacked only if its size and
SHA-256 are those on record there; the folder appears whole or not at all. What has come of an
archive when a download ends early is kept beside it, and the next call continues from there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from recsys.data.archive import unpack
from recsys.data.download import download
from recsys.data.partial import PartialFile, partial_file
from recsys.data.sources import Source, public_sources
from recsys.data.synthetic import write_sample
from recsys.errors import DownloadError, NetworkError
from recsys.storage import atomic_folder

DEFAULT_SOURCE: Final = "ml-latest-small"
SAMPLE_FOLDER: Final = "synthetic-sample"


def _to_stderr(message: str) -> None:
    sys.stderr.write(message + "\n")


def is_present(folder: Path) -> bool:
    """Whether a data set's own folder is there, with something in it."""
    return folder.is_dir() and any(folder.iterdir())


def fetch(
    name: str,
    folder: Path,
    *,
    notify: Callable[[str], None] = _to_stderr,
    sources: Mapping[str, Source] | None = None,
) -> Path:
    """Give the folder of a public data set, downloading it if it is not there.

    A download that another process has begun is waited for, not begun again.

    Args:
        name: the name of the data set, as in `public_sources()`.
        folder: the folder that shall hold the data set's own folder.
        notify: is told the terms of use, once, when the data set has been downloaded; and
            that another process is waited for.
        sources: the data sets to choose from; `public_sources()` if not given.

    Returns:
        `folder / name`.

    Raises:
        NetworkError: the network or the server gave no complete answer; what came is kept as
            `.<name>.zip.part`, and the next call continues from there.
        DownloadError: the data set is unknown, cannot be had, is not what it should be, or
            cannot be written.
    """
    known = public_sources() if sources is None else sources
    if name not in known:
        raise DownloadError(f"no public data set is called {name!r}; there are {', '.join(known)}")
    target = folder / name
    try:
        if target.exists() and not target.is_dir():
            raise DownloadError(f"{target} is a file, not a folder: move it away and try again")
        if not is_present(target):
            _fetch(known[name], target, notify)
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


def _fetch(source: Source, target: Path, notify: Callable[[str], None]) -> None:
    def on_wait() -> None:
        notify(f"waiting for another process that is downloading {source.name}")

    path = target.with_name(f".{source.name}.zip.part")
    with partial_file(path, on_wait) as part:
        # Whoever was waited for may have done it.
        if not is_present(target):
            _download(source, part)
            notify(f"{source.title}\n{source.home}\n{source.licence.strip()}")
            _unpack(source, part, target)
        part.forget()


def _download(source: Source, part: PartialFile) -> None:
    with _progress_bar(source) as on_bytes:
        download(source, part, on_bytes)


def _unpack(source: Source, part: PartialFile, target: Path) -> None:
    try:
        with atomic_folder(target) as draft:
            unpack(part.file, draft, source)
    except DownloadError:
        part.forget()  # these are the bytes on record: others will not come
        raise


@contextmanager
def _progress_bar(source: Source) -> Iterator[Callable[[int], None]]:
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    stderr = Console(stderr=True)
    off = not sys.stderr.isatty()
    with Progress(*columns, console=stderr, disable=off, transient=True) as bar:
        task = bar.add_task(source.name, total=source.bytes)
        yield lambda n_bytes: bar.update(task, completed=n_bytes)
