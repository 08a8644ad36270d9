"""Checks of arguments: each returns the argument as it is used, or raises an error in one line."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from recsys.errors import ConfigError, DataError, RecsysError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHOWN = 100
"""How much of an argument an error shows, in characters."""

_LARGEST = sys.float_info.max


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
