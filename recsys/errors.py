"""The exceptions that recsys raises. Any other exception is a bug.

Messages name the file, column or value, and say what to do.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHOWN = 100
"""How much of an argument an error shows, in characters."""

_LARGEST = sys.float_info.max


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


def require_type(value: object, kind: type, source: str) -> None:
    """Raise a `DataError` if an argument is of another stage, such as a table for `Interactions`.

    Args:
        value: the argument.
        kind: what it must be.
        source: what returns such a value.
    """
    if not isinstance(value, kind):
        name = type(value).__name__
        raise DataError(f"expected {kind.__name__}, as {source} returns, but got {name}")


def require(kind: Any, error: type[RecsysError] = ConfigError, /, **arguments: object) -> None:
    """Raise `error` if one of the arguments, given by their names, is not of a kind.

    Args:
        kind: a type, a union of types, or a `Literal` of texts.
        error: what to raise.
        arguments: the values.

    Example:
        >>> require(Path | None, folder=1)
        Traceback (most recent call last):
        recsys.errors.ConfigError: folder is 1: it must be Path or None
    """
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    for name, value in arguments.items():
        is_valid = isinstance(value, str if choices else kind)
        if not is_valid or (choices and value not in choices):
            kinds = map(repr, choices) if choices else map(_name, get_args(kind) or (kind,))
            raise error(f"{name} is {shown(value)}: it must be {' or '.join(kinds)}")


def to_int(
    name: str,
    value: object,
    low: int = 1,
    high: int = sys.maxsize,
    error: type[RecsysError] = ConfigError,
) -> int:
    """Return an argument that is an integer, of Python or numpy, within bounds; or raise `error`.

    Example:
        >>> to_int("k", 2.5)
        Traceback (most recent call last):
        recsys.errors.ConfigError: k is 2.5: it must be an integer of 1 or more
    """
    number = None
    if not isinstance(value, bool):
        with suppress(TypeError):
            number = operator.index(value)  # type: ignore[arg-type]
    if number is None or not low <= number <= high:
        bound = None if high == sys.maxsize and (number is None or number < low) else high
        raise error(f"{name} is {shown(value)}: it must be an integer{_within(low, bound)}")
    return number


def to_number(
    name: str,
    value: object,
    low: float | None = None,
    high: float | None = None,
    error: type[RecsysError] = ConfigError,
) -> float:
    """Return an argument that is a finite number within bounds; or raise `error`.

    Example:
        >>> to_number("poll_interval", "30", low=0)
        Traceback (most recent call last):
        recsys.errors.ConfigError: poll_interval is '30': it must be a number of 0 or more
    """
    number = math.nan
    # A timedelta64 of numpy is a Real too, but no float.
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(TypeError, OverflowError):
            number = float(value)
    if not (-_LARGEST if low is None else low) <= number <= (_LARGEST if high is None else high):
        raise error(f"{name} is {shown(value)}: it must be a number{_within(low, high)}")
    return number


def to_array(
    name: str,
    value: object,
    kinds: str,
    *shape: int | None,
    error: type[RecsysError] = ConfigError,
) -> NDArray[Any]:
    """Return an argument that is an array of numbers; or raise `error`.

    Args:
        name: the name of the argument.
        value: the argument.
        kinds: the kinds of numbers, as numpy names them: "iu" for integers, "f" for others.
        shape: the size of each axis; None for any.
        error: what to raise.

    Example:
        >>> to_array("vectors", [1, 2], "f", 3, None)
        Traceback (most recent call last):
        recsys.errors.ConfigError: vectors is [1, 2]: it must be an array of numbers, [3, any]
    """
    import numpy as np  # not for the commands that print a help text

    array = np.empty(0, object)
    with suppress(TypeError, ValueError, OverflowError, RuntimeError):
        array = np.asarray(value)
    has_shape = array.ndim == len(shape) and all(
        size in (None, n) for size, n in zip(shape, array.shape, strict=True)
    )
    # An empty list becomes an array of floats.
    if not has_shape or (array.dtype.kind not in kinds and (array.size or value is array)):
        sizes = ", ".join("any" if size is None else f"{size:,}" for size in shape)
        what = "integers" if kinds == "iu" else "numbers"
        raise error(f"{name} is {shown(value)}: it must be an array of {what}, [{sizes}]")
    return array if array.dtype.kind in kinds else array.astype(np.int64)


def to_list(name: str, value: object, error: type[RecsysError] = ConfigError) -> list[Any]:
    """Return an argument that is a list, or can be one, but is no text; or raise `error`."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        with suppress(TypeError):  # an array without axes
            return list(value)
    raise error(f"{name} is {shown(value)}: it must be a list")


def to_indices(
    name: str, value: object, n: int, error: type[RecsysError] = ConfigError
) -> NDArray[np.int64]:
    """Return an argument that is a list or an array of indices below n; or raise `error`."""
    array = to_array(name, value, "iu", None, error=error)
    outside = array[(array < 0) | (array >= n)]
    if len(outside):
        raise error(f"{name} contains {outside[0]}: indices are 0 to {n - 1:,}")
    return array.astype("int64")


def to_histories(
    name: str, value: object, error: type[RecsysError] = ConfigError
) -> list[NDArray[Any]]:
    """Return an argument that is a list of histories, each of item indices; or raise `error`."""
    return [
        to_array(f"{name}[{row}]", history, "iu", None, error=error)
        for row, history in enumerate(to_list(name, value, error))
    ]


def shown(value: object) -> str:
    """An argument as an error shows it."""
    text = f"a {type(value).__name__} that cannot be shown"
    with suppress(Exception):  # of another library, or of an integer of thousands of digits
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _within(low: float | None, high: float | None) -> str:
    if high is not None:
        return f" from {low:,} to {high:,}"
    return "" if low is None else f" of {low:,} or more"


def _name(kind: Any) -> str:
    return {type(None): "None", Callable: "a function"}.get(kind) or str(kind.__name__)


def to_path(value: str | Path, error: type[RecsysError]) -> Path:
    """Return an argument as a path; raise `error` if the file system can have no such path."""
    if isinstance(value, str) and not value:  # else the current folder
        raise error("'' is not a path: it is empty")
    try:
        path = Path(value)
        str(path).encode()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()
    except (TypeError, ValueError, OSError) as refusal:
        text = shown(str(value) if isinstance(value, Path) else value)
        reason = refusal.strerror if isinstance(refusal, OSError) else refusal
        if isinstance(refusal, UnicodeEncodeError):
            reason = "its name is not UTF-8; rename it"
        raise error(f"{text} cannot be used as a path: {reason}") from refusal
    return path


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
