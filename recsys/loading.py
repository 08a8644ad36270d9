"""Load a recommender from a folder, a run or the model registry, and reload it when it changes."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from recsys.config import CHAMPION, POLL_INTERVAL
from recsys.errors import BundleError, RecsysError
from recsys.recommender import Recommender
from recsys.storage import MANIFEST, sha256_of


def load_recommender(source: str | Path = CHAMPION) -> Recommender:
    """Load a recommender.

    Args:
        source: a bundle folder, or `models:/<name>@<alias>`, `models:/<name>/<version>` or
            `runs:/<run id>`, looked up in MLflow.

    Raises:
        BundleError: the bundle is missing, incomplete, altered, or of an unknown format.
        TrackingError: there is no such run or model.
    """
    if str(source).startswith(("models:/", "runs:/")):
        # Only here: a folder is loaded without MLflow, whose import takes seconds.
        from recsys.tracking import fetch_bundle

        with tempfile.TemporaryDirectory(prefix="recsys-") as folder:
            return Recommender.load(fetch_bundle(str(source), Path(folder)))
    return Recommender.load(source)


_log = logging.getLogger(__name__)


class AutoReloader:
    """Always the latest good recommender of a model or a folder.

    A thread looks for a new bundle from time to time, loads and verifies it, and only then lets
    `recommender` be the new one, in one step: whoever holds the old one goes on with it. A new
    bundle that cannot be loaded, or not give an answer, is refused and logged, and the old one
    keeps answering. So it is when the registry cannot be reached.

    A process that is forked has no such thread, as threads do not survive a fork: it starts one
    when it asks for the recommender.

    Args:
        source: `models:/<name>@<alias>`, or a bundle folder that is replaced from time to time.
        poll_interval: seconds between two looks.

    Raises:
        RecsysError: there is no good bundle to begin with.

    Example:
        >>> with AutoReloader("models:/recsys@champion") as following:  # doctest: +SKIP
        ...     following.recommender.next_items(["Heat (1995)"])
    """

    def __init__(self, source: str | Path = CHAMPION, poll_interval: float = POLL_INTERVAL) -> None:
        self.source = source
        self.poll_interval = poll_interval
        self._version, self._recommender = self._load()
        self._told = ""
        self._looking = threading.Lock()
        self._closed = threading.Event()
        self._start()

    @property
    def recommender(self) -> Recommender:
        """The latest good one; hold it for several requests that belong together."""
        if os.getpid() != self._process and not self._closed.is_set():
            self._looking = threading.Lock()  # it may have been held when the process was forked
            self._start()
        return self._recommender

    @property
    def version(self) -> str:
        """The registered version in use, or of a folder the SHA-256 of its manifest."""
        return self._version

    def poll(self) -> bool:
        """Look for a new bundle now; gives back whether one was taken into use.

        What is wrong with a new one is logged once; it is tried again each time, as it may not be
        there as a whole yet.
        """
        with self._looking:
            try:
                if current_version(self.source) == self._version:
                    return False
                self._version, self._recommender = self._load()
            except Exception as error:  # noqa: BLE001, whatever it is, the old one keeps answering
                self._refuse(error)
                return False
            self._told = ""
            _log.info("%s: version %s answers from now on", self.source, self._version)
            return True

    def _refuse(self, error: Exception) -> None:
        if str(error) != self._told:
            self._told = str(error)
            _log.error(
                "%s: the new one is refused, version %s keeps answering: %s",
                self.source,
                self._version,
                error,
                exc_info=None if isinstance(error, RecsysError) else error,
            )

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _load(self) -> tuple[str, Recommender]:
        """The present version; if it changes while it is loaded, the next look finds out."""
        version = current_version(self.source)
        recommender = load_recommender(self.source)
        recommender.popular_items(1).as_records()
        return version, recommender

    def _start(self) -> None:
        self._process = os.getpid()
        threading.Thread(target=self._follow, name="recsys-following", daemon=True).start()

    def _follow(self) -> None:
        while not self._closed.wait(self.poll_interval):
            self.poll()


def current_version(source: str | Path) -> str:
    """What tells one bundle of a source from the next.

    Raises:
        RecsysError: there is none.
    """
    if str(source).startswith("models:/"):
        from recsys.tracking import version_of

        return version_of(str(source))
    if str(source).startswith("runs:/"):
        return str(source)
    manifest = Path(source) / MANIFEST
    try:
        return sha256_of(manifest)
    except OSError as error:
        raise BundleError(f"{manifest} cannot be read: {error}") from error
