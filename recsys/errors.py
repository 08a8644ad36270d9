"""Every error that recsys raises on purpose, so that callers can tell a mistake from a bug.

Messages are for people: they name the file, column, or value at fault and say what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class RecsysError(Exception):
    """Base of all errors that recsys raises on purpose."""


class ConfigError(RecsysError):
    """A setting asks for what this machine or this data cannot give."""


class DataError(RecsysError):
    """The input data cannot be used as it stands."""


class DownloadError(RecsysError):
    """A public data set could not be fetched, or what came was not what was expected."""


class NetworkError(DownloadError):
    """The network, or the server at its other end, gave no complete answer."""


class BundleError(RecsysError):
    """A saved bundle is missing, incomplete, altered, or of an unknown format."""


class TrainingError(RecsysError):
    """A fit went wrong; the message says what to change."""


class TrackingError(RecsysError):
    """A run or a registered model could not be found or recorded."""


class QueryError(RecsysError, ValueError):
    """A question that a recommender cannot answer as it was put; the message names the argument."""


class UnknownItemError(QueryError):
    """An item was named that the catalogue does not hold, or holds more than once.

    Args:
        message: for people.
        name: what was asked for.
        closest: titles that are spelt like it, best first.
    """

    def __init__(self, message: str, name: object = None, closest: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.closest = closest


class UnknownUserError(QueryError):
    """A user was named of whom the bundle holds no history."""


@contextmanager
def requires(extra: str) -> Iterator[None]:
    """Report a missing optional dependency with the command that installs it.

    Args:
        extra: the optional dependency group of `pyproject.toml` that the block imports from.

    Raises:
        ConfigError: a package that the block imports is not installed.

    Example:
        >>> with requires("serve"):
        ...     import no_such_package
        Traceback (most recent call last):
        recsys.errors.ConfigError: no_such_package is not installed: pip install -e '.[serve]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("recsys", "flows"):
            raise
        raise ConfigError(f"{error.name} is not installed: pip install -e '.[{extra}]'") from error
