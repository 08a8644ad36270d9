"""Tasks whose results lie in folders named by content: what is there is not made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ParamSpec

from prefect import Task, get_run_logger, task

from recsys.errors import BundleError
from recsys.storage import MANIFEST, verify_manifest

P = ParamSpec("P")


def cached_task(
    kind: str, name: str, tags: tuple[str, ...] = ()
) -> Callable[[Callable[P, str]], Task[P, str]]:
    """A task that fills the folder of its argument `digest`, and gives back the folder's name.

    Prefect stores that name alone, by kind and digest.

    Args:
        kind: of results, in one word.
        name: of its runs; may hold parameters in braces.
        tags: of its runs.
    """
    return task(
        task_run_name=name,
        tags=tags,
        cache_key_fn=lambda _context, parameters: f"{kind}-{parameters['digest']}",
        persist_result=True,
        result_serializer="json",
    )


def fill(
    parts: tuple[Path, ...], making: Task[P, str], /, *args: P.args, **kwargs: P.kwargs
) -> bool:
    """Run a kept task, unless it has been run before and what it made is still whole.

    Args:
        parts: the folders that it makes, each with its manifest. Where one is gone or damaged, the
            result is none, whatever Prefect remembers; the log says what was found.
        making: the task.
        *args: for the task.
        **kwargs: for the task.

    Returns:
        Whether all was there already.
    """
    damage = _damage(parts)
    if damage is not None and any(part.exists() for part in parts):
        get_run_logger().warning("what was kept is made anew: %s", damage)
    before = None if damage else _written(parts)
    making.with_options(refresh_cache=damage is not None)(*args, **kwargs)
    return _written(parts) == before


def are_valid(parts: Iterable[Path]) -> bool:
    """Whether folders are there, with every byte that their manifests record."""
    return _damage(parts) is None


def _damage(parts: Iterable[Path]) -> BundleError | None:
    """What is wrong with the first folder that is not whole."""
    try:
        for part in parts:
            verify_manifest(part)
    except BundleError as error:
        return error
    return None


def _written(parts: Iterable[Path]) -> list[tuple[int, int]]:
    """Tells one writing of some folders from another, however Prefect calls the task's state."""
    manifests = [(part / MANIFEST).stat() for part in parts]
    return [(manifest.st_ino, manifest.st_mtime_ns) for manifest in manifests]


def origin(folder: Path) -> dict[str, str]:
    """Tags of a run whose results were made by an earlier one."""
    return {"cached_from": folder.as_posix()}
