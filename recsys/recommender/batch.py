"""Recommendations for all users, written to a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys.data import Interactions
from recsys.errors import BundleError
from recsys.recommender.recommender import Recommender
from recsys.storage import atomic_folder, read_json, verify_manifest, write_manifest

FORMAT: Final = "recsys recommendations, version 1"
MANIFEST: Final = "_manifest.json"
"""Readers of Parquet folders skip names that begin with an underscore."""
CHUNK_SIZE: Final = 50_000


def write_recommendations(
    recommender: Recommender,
    interactions: Interactions,
    folder: Path,
    *,
    k: int = 10,
    metadata: Mapping[str, Any] | None = None,
    chunk_size: int = CHUNK_SIZE,
    on_file: Callable[[int, int], object] = lambda _written, _total: None,
) -> Path:
    """Write the k best items for every user with at least one interaction.

    If histories are sessions, the history of a user is the latest session.

    The files `part-000000.parquet`, … have the columns `user_id`, `rank` (from 1), `item_id`,
    `title`, `score` and `probability`, sorted by user and rank. Items that the model does not know
    are removed from the histories.

    Args:
        recommender: The recommender.
        interactions: The users' histories, whose items are not recommended again.
        folder: Output folder, created or replaced atomically.
        k: Maximum number of items for each user.
        metadata: Identifies the inputs of these recommendations for `is_up_to_date`.
        chunk_size: Number of users that are scored at once and written to one file.
        on_file: Called with the number of files written and the total.
    """
    interactions = interactions.sequence().latest_sessions()
    users = np.flatnonzero(interactions.history_lengths)
    starts = range(0, len(users), chunk_size)
    item_ids, user_ids = interactions.items.ids, interactions.users.ids
    is_known = recommender.bundle.items.indices(item_ids) >= 0
    with atomic_folder(folder) as tmp_path:
        for number, start in enumerate(starts):
            chunk = users[start : start + chunk_size]
            items = (interactions.history(user) for user in chunk)
            histories = [item_ids[history[is_known[history]]].tolist() for history in items]
            table = recommender.recommend_batch(
                dict(zip(user_ids[chunk].tolist(), histories, strict=True)), k
            )
            table.to_parquet(tmp_path / f"part-{number:06d}.parquet", index=False)
            on_file(number + 1, len(starts))
        write_manifest(
            tmp_path,
            manifest=MANIFEST,
            format=FORMAT,
            n_users=len(users),
            metadata={"k": k, **(metadata or {})},
        )
    return folder


def is_up_to_date(folder: Path, *, k: int, metadata: Mapping[str, Any]) -> bool:
    """Whether a folder holds complete, unmodified recommendations with this metadata."""
    if not (folder / MANIFEST).exists():
        return False
    try:
        if read_json(folder / MANIFEST).get("metadata") != {"k": k, **metadata}:
            return False
        verify_manifest(folder, MANIFEST)
    except BundleError:
        return False
    return True
