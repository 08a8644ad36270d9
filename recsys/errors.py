"""The exceptions that recsys raises. Any other exception is a bug.

Messages name the file, column or value, and say what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit status of every command."""

    OK = 0
    """All is well."""
    ERROR = 1
    """The request was refused or failed: standard error says why, in one line. Also: `data check`
    left out invalid rows; `doctor` found an error."""
    USAGE = 2
    """The command line is invalid: no such command or option, or a wrong value."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C."""
    TERMINATED = 143
    """A flow was ended by SIGTERM."""


class RecsysError(Exception):
    """Base class of all exceptions that recsys raises.

    The message is one line: line ends, which messages of other libraries have, become spaces.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(part.strip() for part in message.splitlines()))


class ConfigError(RecsysError):
    """A setting or an argument is invalid, or this machine or this data does not support it.

    Change the setting that the message names, or install the package that it names.
    """


class DataError(RecsysError):
    """The input data is invalid.

    The message names file, line, column and value. Correct them, or declare how to read them with
    the option that it names. `recsys data check` shows how a log is read.
    """


class DownloadError(RecsysError):
    """A public data set could not be downloaded or has unexpected content.

    Try again later, or download it by hand and give its path.
    """


class NetworkError(DownloadError):
    """A server or database could not be reached or did not send a complete response.

    Check the connection and the address, and try again. Flows do so three times.
    """


class StorageError(RecsysError):
    """A file cannot be written: the disk is full, or the path is read-only or of another user.

    Make room, or write to another folder. Nothing is left half-written.
    """


class BundleError(RecsysError):
    """A saved folder is missing, incomplete, altered, or of an unknown format.

    Copy the whole folder again from where it was written, or make it again. Files of a folder must
    not be edited.
    """


class TrainingError(RecsysError):
    """A fit failed, for example because the loss is no longer a finite number.

    Change the setting that the message names.
    """


class TrackingError(RecsysError):
    """A run or a registered model was not found or could not be recorded.

    Check the name and `MLFLOW_TRACKING_URI`. Train first if there is no model yet.
    """


class QueryError(RecsysError, ValueError):
    """An argument of a query is invalid; the message names it.

    Correct the argument. It is also a `ValueError`.
    """


class UnknownItemError(QueryError):
    """No item, or more than one, has this id or title.

    Use one of `closest`, titles or ids, or `unknown="ignore"`.

    Args:
        message: the error message.
        name: the id or title of the query.
        closest: the most similar titles, best first; ids of items that share theirs.
    """

    def __init__(self, message: str, name: object = None, closest: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.closest = closest


class UnknownUserError(QueryError):
    """The bundle has no history of this user.

    Train with `include_user_histories`, or pass the history to `next_items`.
    """


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


def first_cause(error: BaseException) -> BaseException:
    """The error with which a chain began; those raised from it often only repeat it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
