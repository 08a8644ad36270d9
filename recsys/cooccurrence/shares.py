"""Sharing the users of a log out: what the workers of a cluster do before they count.

pieces of Parquet → files by partition of the users → a share of the users

Each step gives the same result whenever it is done again, and files are written whole or not at
all: what a lost worker had is simply made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from recsys import columns as names
from recsys.cooccurrence.pieces import Piece
from recsys.data import Checks, Interactions, ReadReport, read_ratings
from recsys.errors import DataError
from recsys.storage import atomic_file


def scatter_users(piece: Piece, n_partitions: int, folder: Path, name: str) -> list[Path | None]:
    """Share the rows of a piece out by the hash of their user.

    Args:
        piece: where the rows are.
        n_partitions: among how many.
        folder: where to write a file for each partition.
        name: tells the files of this piece from those of others.

    Returns:
        The file of each partition, [n_partitions]; None where the piece has no row for it.
    """
    must_be_shared(folder)
    table = piece.read()
    place = partition_of(table[names.USER_ID], n_partitions)
    by_place = np.argsort(place, kind="stable")
    ends = np.bincount(place, minlength=n_partitions).cumsum()
    files: list[Path | None] = []
    for partition, rows in enumerate(np.split(by_place, ends[:-1])):
        files.append(folder / f"users-{partition:05d}-{name}.parquet" if len(rows) else None)
        if (path := files[-1]) is not None:
            with atomic_file(path) as draft:
                pyarrow.parquet.write_table(table.take(rows), draft)
    return files


def partition_of(user_ids: pa.ChunkedArray, n_partitions: int) -> NDArray[np.int64]:
    """The partition of each row, [n]: the same for the same id, on every machine."""
    # Rows without a user are judged later.
    nothing = 0 if pa.types.is_integer(user_ids.type) else ""
    hashes = pd.util.hash_array(user_ids.fill_null(nothing).to_numpy())
    return (hashes % np.uint64(n_partitions)).astype(np.int64)


def must_be_shared(folder: Path) -> None:
    """Raise if a folder that the client made is not there for a worker."""
    if not folder.is_dir():
        raise DataError(
            f"a worker does not see {folder}: the counts must be written to storage that all "
            "machines of the cluster share, under the same path"
        )


@dataclass(frozen=True, eq=False)
class Share:
    """All ratings of some users."""

    log: Interactions | None
    """With the items of these users only; None where there is no row."""
    report: ReadReport | None
    """What was left out of them."""


class ShareFacts(NamedTuple):
    """What is to be known of a share without having it."""

    n_users: int
    n_likes: int
    highest: float
    """The highest rating; −∞ where there is none."""
    has_ratings: bool
    report: ReadReport | None


def collect_share(scattered: Sequence[Sequence[Path | None]], place: int, checks: Checks) -> Share:
    """Read and check what all pieces hold of one partition, in the order of the source.

    Args:
        scattered: the files, piece by piece.
        place: which partition.
        checks: what to do about rows that cannot be right.
    """
    files = [path for piece in scattered if (path := piece[place]) is not None]
    if not files:
        return Share(None, None)
    table = pa.concat_tables([pyarrow.parquet.read_table(path) for path in files])
    reports: list[ReadReport] = []
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    log = read_ratings(frame, checks=checks, on_report=reports.append)
    return Share(log, reports[0])


def facts_of(share: Share, min_rating: float | None) -> ShareFacts:
    """What the client needs to know of a share."""
    log = share.log
    if log is None:
        return ShareFacts(0, 0, -np.inf, False, None)
    if log.rating is None:
        return ShareFacts(log.n_users, len(log), -np.inf, False, share.report)
    lowest = -np.inf if min_rating is None else min_rating
    n_likes = int(np.count_nonzero(log.rating >= lowest))
    highest = float(log.rating.max(initial=-np.inf))
    return ShareFacts(log.n_users, n_likes, highest, True, share.report)


def items_of(share: Share) -> NDArray[Any] | None:
    """The ids of the items of a share, ascending; None where it has no row."""
    return None if share.log is None else share.log.items.ids


def unite_items(one: NDArray[Any] | None, other: NDArray[Any] | None) -> NDArray[Any] | None:
    """The ids of the items of two shares, ascending."""
    if one is None or other is None:
        return other if one is None else one
    return np.union1d(one, other)
