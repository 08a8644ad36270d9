"""Recommendations for all users, written to a folder of Parquet files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from recsys.cluster import THIS_PROCESS, Workers, require_shared
from recsys.data import Interactions
from recsys.data.interactions import lengths_to_offsets
from recsys.errors import BundleError
from recsys.recommender.recommender import Recommender
from recsys.storage import (
    atomic_file,
    read_json,
    resumable_folder,
    verify_manifest,
    write_manifest,
)

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
    workers: Workers = THIS_PROCESS,
) -> Path:
    """Write the k best items for every user with at least one interaction.

    If histories are sessions, the history of a user is the latest session.

    The files `part-000000.parquet`, … have the columns `user_id`, `rank` (from 1), `item_id`,
    `title`, `score` and `probability`, sorted by user and rank. Items that the model does not know
    are removed from the histories.

    The folder appears once all files are complete. If the process is interrupted, the next call
    with the same inputs keeps the files that were complete.

    Args:
        recommender: The recommender.
        interactions: The users' histories, whose items are not recommended again.
        folder: Output folder, created or replaced atomically.
        k: Maximum number of items for each user.
        metadata: Identifies the inputs of these recommendations for `is_up_to_date`.
        chunk_size: Number of users that are scored at once and written to one file.
        on_file: Called with the number of files written and the total.
        workers: Those of a cluster, see `recsys.cluster`, write the files. They see the folder,
            and that of the recommender, under the same path.
    """
    metadata = {"k": k, **(metadata or {})}
    inputs = {
        "format": FORMAT,
        "metadata": metadata,
        "model": recommender.version or uuid4().hex,  # a model in memory has no version
        "interactions": interactions.digest,
        "chunk_size": chunk_size,
    }
    histories = KnownHistories.of(interactions, recommender)
    n_users = len(histories.user_ids)
    with resumable_folder(folder, inputs) as tmp_path:
        parts = [
            Part(tmp_path / f"part-{number:06d}.parquet", start, start + chunk_size)
            for number, start in enumerate(range(0, n_users, chunk_size))
        ]
        missing = [part for part in parts if not part.path.exists()]
        n_kept = len(parts) - len(missing)
        written = workers.map(write_part, missing, recommender, histories, k)
        for number, _ in enumerate(written, n_kept + 1):
            on_file(number, len(parts))
        for path in tmp_path.glob(".*"):  # of killed processes
            shutil.rmtree(path, ignore_errors=True)
        write_manifest(
            tmp_path, manifest=MANIFEST, format=FORMAT, n_users=n_users, metadata=metadata
        )
    return folder


@dataclass(frozen=True, eq=False)
class KnownHistories:
    """The items of each user's history that a recommender knows."""

    user_ids: NDArray[Any]
    """Users with at least one interaction, [n_users]."""
    offsets: NDArray[np.int64]
    """Start of each history, and the end of the last, [n_users + 1]."""
    items: NDArray[np.int32]
    """Items of one user after another, oldest first, [n]."""
    item_ids: NDArray[Any]
    """[n_items]"""

    @classmethod
    def of(cls, interactions: Interactions, recommender: Recommender) -> KnownHistories:
        """The histories of some interactions, or the latest session of each user."""
        log = interactions.sequence().latest_sessions()
        has_rows = log.history_lengths > 0
        known = recommender.bundle.items.indices(log.items.ids) >= 0
        rows = log.filter(known[log.item_index])
        offsets = lengths_to_offsets(rows.history_lengths[has_rows])
        return cls(log.users.ids[has_rows], offsets, rows.item_index, log.items.ids)

    def by_user(self, start: int, stop: int) -> dict[Any, list[Any]]:
        """The item ids of users `start` to `stop`, by user id."""
        bounds = self.offsets[start : stop + 1].tolist()
        ids = self.user_ids[start:stop].tolist()
        return {
            user: self.item_ids[self.items[first:last]].tolist()
            for user, first, last in zip(ids, bounds[:-1], bounds[1:], strict=True)
        }


class Part(NamedTuple):
    """A file, and the users whose recommendations it has."""

    path: Path
    start: int
    stop: int


def write_part(part: Part, recommender: Recommender, histories: KnownHistories, k: int) -> None:
    """Write the recommendations for some users to a file, atomically."""
    require_shared(part.path.parent)
    table = recommender.recommend_batch(histories.by_user(part.start, part.stop), k)
    with atomic_file(part.path) as tmp_path:
        table.to_parquet(tmp_path, index=False)


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
