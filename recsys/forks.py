"""Locks and lazy attributes that a forked process can use.

A fork copies every lock as it is: one that another thread holds is never released in the child.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

_T = TypeVar("_T")


class _Renewable(Protocol):
    def renew(self) -> None: ...


_OBJECTS = WeakSet[_Renewable]()


def renew_after_fork(thing: _Renewable) -> None:
    """Call the object's `renew`, which replaces its locks, in each process forked from this one."""
    _OBJECTS.add(thing)


def _renew_all() -> None:
    for thing in list(_OBJECTS):
        thing.renew()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_all)


class lazy(Generic[_T]):  # noqa: N801 – used as a decorator, like `property`
    """`functools.cached_property` without the lock that it has in Python 3.11.

    Threads that read the attribute for the first time at once may compute it more than once.
    """

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, _: type | None = None) -> _T:
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
