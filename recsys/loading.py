"""Load a recommender from a folder or MLflow, and reload it when a new version appears."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from recsys.arguments import to_number, to_path
from recsys.config import CHAMPION, POLL_INTERVAL
from recsys.errors import BundleError, RecsysError
from recsys.forks import renew_after_fork
from recsys.recommender import Recommender
from recsys.storage import MANIFEST, sha256_of

_LOGGER = logging.getLogger(__name__)
_URIS = ("models:/", "runs:/")
_MAX_INTERVAL = 86_400


def load_recommender(source: str | Path = CHAMPION) -> Recommender:
    """Load a recommender.

    Args:
        source: A bundle folder, or `models:/<name>@<alias>`, `models:/<name>/<version>` or
            `runs:/<run id>` in MLflow.

    Raises:
        BundleError: The bundle is missing, incomplete, modified or of an unknown format.
        TrackingError: There is no such run or model.
    """
    if _is_uri(source):
        from recsys.tracking import fetch_bundle  # slow import of MLflow

        # Read the version first: if it changes during the load, a reloader loads again.
        version = current_version(source)
        with tempfile.TemporaryDirectory(prefix="recsys-") as folder:
            recommender = Recommender.load(fetch_bundle(str(source), Path(folder)))
        recommender.version = version
        return recommender
    return Recommender.load(source)


def _is_uri(source: str | Path) -> bool:
    return isinstance(source, str) and source.startswith(_URIS)


class AutoReloader:
    """Provides the latest valid recommender of a registered model or a bundle folder.

    A background thread polls the source. It loads and verifies a new bundle and then replaces
    `recommender` atomically; callers that hold the previous recommender can keep using it. If the
    new bundle is invalid or the registry is unavailable, the error is logged and the previous
    recommender stays in use.

    After a fork, the child process starts its own thread when it accesses `recommender`. Relative
    paths, also that of a local MLflow store, refer to the working directory of the start.

    Args:
        source: `models:/<name>@<alias>`, or a bundle folder.
        poll_interval: Seconds between two checks for a new bundle, from 0.001 to a day's 86,400.

    Raises:
        ConfigError: `poll_interval` is no such number.
        RecsysError: There is no valid bundle at the start.

    Example:
        >>> with AutoReloader("models:/recsys@champion") as reloader:  # doctest: +SKIP
        ...     reloader.recommender.next_items(["Heat (1995)"])
    """

    def __init__(self, source: str | Path = CHAMPION, poll_interval: float = POLL_INTERVAL) -> None:
        self.poll_interval = to_number("poll_interval", poll_interval, 0.001, _MAX_INTERVAL)
        self.source = source if _is_uri(source) else to_path(source, BundleError).absolute()
        self._home = Path.cwd()
        self._recommender = self._load()
        self._last_error = ""
        self._closed = threading.Event()
        self.renew()
        renew_after_fork(self)
        self._start_thread()

    @property
    def version(self) -> str:
        """The registered version in use; for a folder, the SHA-256 of its manifest."""
        return self._recommender.version

    @property
    def recommender(self) -> Recommender:
        """The latest valid recommender. Use one object for requests that belong together."""
        if os.getpid() != self._pid and not self._closed.is_set():
            self._start_thread()
        return self._recommender

    def renew(self) -> None:
        """Replace the locks, in a forked process."""
        was_closed = self._closed.is_set()
        self._lock, self._closed = threading.Lock(), threading.Event()
        if was_closed:
            self._closed.set()

    def poll(self) -> bool:
        """Check for a new bundle now. Returns whether the recommender was replaced.

        An invalid bundle is tried again at every poll; the same error is logged only once.
        """
        with self._lock:
            try:
                with self._store():
                    is_current = current_version(self.source) == self.version
                if is_current:
                    return False
                self._recommender = self._load()
            except Exception as error:  # the previous recommender stays in use
                if str(error) != self._last_error:
                    self._last_error = str(error)
                    message = "%s: cannot load the new version, still using version %s: %s"
                    trace = None if isinstance(error, RecsysError) else error
                    _LOGGER.log(
                        logging.ERROR, message, self.source, self.version, error, exc_info=trace
                    )
                return False
            self._last_error = ""
            _LOGGER.info("%s: now using version %s", self.source, self.version)
            return True

    def close(self) -> None:
        """Stop polling."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _store(self) -> AbstractContextManager[None]:
        from recsys.tracking.store import relative_to

        return relative_to(self._home)

    def _load(self) -> Recommender:
        with self._store():
            recommender = load_recommender(self.source)
        recommender.popular_items(1)
        return recommender

    def _start_thread(self) -> None:
        self._pid = os.getpid()
        threading.Thread(target=self._run, name="recsys-reloader", daemon=True).start()

    def _run(self) -> None:
        while not self._closed.wait(self.poll_interval):
            self.poll()


def current_version(source: str | Path) -> str:
    """An identifier of the source's current bundle.

    Raises:
        RecsysError: There is no bundle.
    """
    if str(source).startswith("models:/"):
        from recsys.tracking import version_of

        return version_of(str(source))
    if str(source).startswith("runs:/"):
        return str(source)
    manifest = to_path(source, BundleError) / MANIFEST
    try:
        return sha256_of(manifest)
    except OSError as error:
        raise BundleError(f"{manifest} cannot be read: {error}") from error
