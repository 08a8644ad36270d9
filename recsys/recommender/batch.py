"""Recommendations for every user at once, in a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys.data import Interactions
from recsys.errors import BundleError
from recsys.recommender import Recommender
from recsys.storage import atomic_folder, read_json, verify_manifest, write_manifest
from recsys.vocabulary import ID

FORMAT: Final = "recsys recommendations, version 1"
MANIFEST: Final = "_manifest.json"
"""Readers of a folder of Parquet files pass over names that begin like this."""
USERS_PER_FILE: Final = 50_000


def write_recommendations(
    recommender: Recommender,
    interactions: Interactions,
    folder: Path,
    *,
    k: int = 10,
    facts: Mapping[str, Any] | None = None,
    users_per_file: int = USERS_PER_FILE,
    on_file: Callable[[int, int], object] = lambda _written, _all: None,
) -> Path:
    """Write the k best items for every user who has watched something.

    The files `part-000000.parquet`, … hold `user_id`, `rank` (from one), `item_id`, `title`,
    `score` and `probability`, sorted by user and rank. Watches of items that the model does not
    know are left out of the histories.

    Args:
        recommender: whose recommendations.
        interactions: what the users have watched; it is not recommended to them again.
        folder: appears when all is written; an older one is replaced.
        k: how many for each user, at most.
        facts: what to tell apart these recommendations from others by, for `are_written`.
        users_per_file: how many users are scored, and held in memory, at once.
        on_file: called with how many files are written, and how many there will be.
    """
    users = np.flatnonzero(interactions.history_lengths)
    starts = range(0, len(users), users_per_file)
    known = recommender.bundle.items.indices(interactions.items.ids) >= 0
    with atomic_folder(folder) as draft:
        for number, start in enumerate(starts):
            some = users[start : start + users_per_file]
            histories = dict(_histories(interactions, some.tolist(), known))
            table = recommender.recommend_batch(histories, k)
            table.to_parquet(draft / f"part-{number:06d}.parquet", index=False)
            on_file(number + 1, len(starts))
        told = _told(k, facts)
        write_manifest(draft, manifest=MANIFEST, format=FORMAT, n_users=len(users), facts=told)
    return folder


def are_written(folder: Path, *, k: int, facts: Mapping[str, Any]) -> bool:
    """Whether a folder holds recommendations of these facts, whole and unaltered."""
    if not (folder / MANIFEST).exists():
        return False
    try:
        if read_json(folder / MANIFEST).get("facts") != _told(k, facts):
            return False
        verify_manifest(folder, MANIFEST)
    except BundleError:
        return False
    return True


def _told(k: int, facts: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"k": k, **(facts or {})}


def _histories(
    interactions: Interactions, users: list[int], known: np.ndarray[Any, Any]
) -> Iterator[tuple[ID, list[ID]]]:
    """The id of each user, and those of the items watched that are known, oldest first."""
    ids = interactions.items.ids
    names = interactions.users.ids.tolist() if len(users) else []
    for user in users:
        history = interactions.history(user)
        yield names[user], ids[history[known[history]]].tolist()
