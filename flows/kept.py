"""Tasks whose results lie in folders named by content: what is there is not made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ParamSpec

from prefect import Task, task

from recsys.errors import BundleError
from recsys.storage import verify_manifest

P = ParamSpec("P")


def kept_task(
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
) -> None:
    """Run a kept task, unless it has been run before and what it made is still whole.

    Args:
        parts: the folders that it makes, each with its manifest. Where one is gone or damaged, the
            result is none, whatever Prefect remembers.
        making: the task.
        *args: for the task.
        **kwargs: for the task.
    """
    making.with_options(refresh_cache=not are_whole(parts))(*args, **kwargs)


def are_whole(parts: Iterable[Path]) -> bool:
    """Whether folders are there, with every byte that their manifests record."""
    try:
        for part in parts:
            verify_manifest(part)
    except BundleError:
        return False
    return True
