"""Public names of a package, each imported when it is first used.

A program that only asks for recommendations does not wait for torch, which training needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def deferred(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A module's `__getattr__` (PEP 562) that looks each name up in the module it lives in.

    A name must not be that of a module of the package: importing this module would hide it.

    Args:
        package: the package's `__name__`.
        homes: module to the public names that live in it.

    Example:
        >>> deferred("arithmetic", {"math": ["sqrt"]})("sqrt")(9)
        3.0
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name]), name)

    return find
