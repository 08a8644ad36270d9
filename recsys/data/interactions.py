"""Interactions, the data structure that every stage consumes, and points in time."""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys import columns
from recsys.arguments import require_type, shown, to_int, to_path
from recsys.data.sessions import Sessions
from recsys.errors import BundleError, ConfigError, DataError
from recsys.storage import atomic_folder, read_arrays, verify_manifest, write_arrays, write_manifest
from recsys.vocabulary import Vocabulary

FORMAT: Final = "recsys interactions, version 1"

_OPTIONAL: Final = ("weight", "in_sequence", "is_return")
"""Columns that few logs have."""

TimestampLike = int | str | datetime
"""Seconds since 1970, text such as `2015-03-31` or `2015-03-31 12:00`, or a datetime. Values
without a time zone are UTC."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """Which user interacted with which item, and when.

    Rows are sorted by user, then timestamp, then input order, so that the history of a user is a
    contiguous slice. With sessions, the rows of a user are sorted by the start of the session
    first. If histories are sessions, each of them is a user here.
    """

    user_index: NDArray[np.int32]
    """Dense user index of each row, [n]."""
    item_index: NDArray[np.int32]
    """Dense item index of each row, [n]."""
    rating: NDArray[np.float32] | None
    """Rating of each row, [n]; None if the data has no ratings."""
    timestamp: NDArray[np.int64] | None
    """Seconds since 1970, UTC, [n]; None if the data is ordered but has no timestamps."""
    user_offsets: NDArray[np.int64]
    """Rows of user u are `user_offsets[u]` to `user_offsets[u + 1]`, [n_users + 1]."""
    users: Vocabulary
    items: Vocabulary
    catalogue: pd.DataFrame
    """One row per item in index order: `item_id`, `title` and any other columns of the source."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating of the whole log; None without ratings, or if they are counts."""
    repeats: bool = False
    """Whether a user may have an item more than once. Models then may recommend what is in a
    history, and evaluation ranks it."""
    weight: NDArray[np.float32] | None = None
    """How much each row counts for the co-occurrences, [n]; None if all count 1."""
    in_sequence: NDArray[np.bool_] | None = None
    """Which rows form the histories, [n]; None if all do."""
    is_return: NDArray[np.bool_] | None = None
    """Rows that stand for an item that the user already had, [n]; None if there are none. They are
    no targets: where repeats are excluded, no answer has an item of the history."""
    sessions: Sessions | None = None
    """The sessions of the log, if it has some."""

    def __post_init__(self) -> None:
        _check_rows(self)

    def __len__(self) -> int:
        return len(self.item_index)

    def __repr__(self) -> str:
        optional = {"ratings": self.rating, "timestamps": self.timestamp, "sessions": self.sessions}
        present = [name for name, column in optional.items() if column is not None]
        columns = f" with {', '.join(present)}" if present else ""
        size = f"{self.n_users:,} users and {self.n_items:,} items"
        return f"<Interactions of {size}: {len(self):,} rows{columns}>"

    @property
    def n_users(self) -> int:
        """Number of users, including users without rows."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items, including items without rows."""
        return len(self.items)

    @property
    def history_lengths(self) -> NDArray[np.int64]:
        """Number of rows of each user, [n_users]."""
        return np.diff(self.user_offsets)

    @property
    def positive_rating(self) -> float | None:
        """Lowest rating of a positive interaction: 0.8 of the highest of the scale.

        None if every interaction is positive, as without a scale.
        """
        if self.rating is None or self.scale is None or self.scale[1] <= 0:
            return None
        return 0.8 * self.scale[1]

    @property
    def histories(self) -> Literal["user", "session"]:
        """What a history is: all interactions of a user, or those of a session."""
        if self.sessions is None or not np.array_equal(self.sessions.offsets, self.user_offsets):
            return "user"
        return "session"

    def history(self, user: int) -> NDArray[np.int32]:
        """Item indices of one user, oldest first, [length]."""
        return self.item_index[self.user_offsets[user] : self.user_offsets[user + 1]]

    def pairs(self) -> NDArray[np.int64]:
        """The user and item of each row as one number, `user_index * n_items + item_index`, [n]."""
        pairs: NDArray[np.int64] = self.user_index.astype(np.int64) * self.n_items + self.item_index
        return pairs

    def require_timestamps(self, operation: str) -> NDArray[np.int64]:
        """Return the timestamps, [n], or raise a `DataError` that names the operation."""
        if self.timestamp is None:
            raise DataError(f"{operation} needs timestamps: the data has no column 'timestamp'")
        return self.timestamp

    def require_sessions(self, operation: str) -> Sessions:
        """Return the sessions, or raise a `DataError` that names the operation."""
        if self.sessions is None:
            raise DataError(
                f"{operation} needs sessions: the data has no column 'session_id'; map one of "
                "another name with columns=, or set session_gap"
            )
        return self.sessions

    def sequence(self) -> Interactions:
        """The rows that form the histories, without weights; of a log without events, all."""
        if self.weight is None and self.in_sequence is None:
            return self
        rows = self if self.in_sequence is None else self.filter(self.in_sequence)
        return replace(rows, weight=None, in_sequence=None)

    def filter(self, mask: NDArray[np.bool_]) -> Interactions:
        """Select the rows where `mask` ([n]) is true; vocabularies and catalogue do not change."""
        lengths = np.bincount(self.user_index[mask], minlength=self.n_users)
        return replace(
            self,
            user_index=self.user_index[mask],
            item_index=self.item_index[mask],
            rating=None if self.rating is None else self.rating[mask],
            timestamp=None if self.timestamp is None else self.timestamp[mask],
            user_offsets=lengths_to_offsets(lengths),
            weight=None if self.weight is None else self.weight[mask],
            is_return=None if self.is_return is None else self.is_return[mask],
            in_sequence=None if self.in_sequence is None else self.in_sequence[mask],
            sessions=None if self.sessions is None else self.sessions.filter(mask),
        )

    def latest_sessions(self) -> Interactions:
        """The latest session of each user, under the user's id, if histories are sessions.

        Other logs, and anonymous ones, are returned as they are.
        """
        sessions = self.sessions
        if sessions is None or self.users == sessions.users:
            return self
        with_rows = np.flatnonzero(sessions.lengths)
        is_last = np.diff(sessions.user_index[with_rows], append=-1) != 0
        rows = self.filter(np.isin(self.user_index, with_rows[is_last]))
        user_index = sessions.user_index[rows.user_index]
        lengths = np.bincount(user_index, minlength=len(sessions.users))
        return replace(
            rows,
            user_index=user_index,
            user_offsets=lengths_to_offsets(lengths),
            users=sessions.users,
            sessions=None,
        )

    def compact(self) -> Interactions:
        """Drop users and items without rows; the others keep their ids."""
        has_user = self.history_lengths > 0
        has_item = np.bincount(self.item_index, minlength=self.n_items) > 0
        return replace(
            self,
            user_index=np.cumsum(has_user, dtype=np.int32)[self.user_index] - np.int32(1),
            item_index=np.cumsum(has_item, dtype=np.int32)[self.item_index] - np.int32(1),
            user_offsets=lengths_to_offsets(self.history_lengths[has_user]),
            users=Vocabulary(self.users.ids[has_user]),
            items=Vocabulary(self.items.ids[has_item]),
            catalogue=self.catalogue.loc[has_item].reset_index(drop=True),
            sessions=None if self.sessions is None else self.sessions.compact(),
        )

    def user_item_matrix(self) -> sp.csr_array:
        """Binary matrix of which user has which item, int32, [n_users, n_items]."""
        ones = np.ones(len(self), dtype=np.int32)
        shape = (self.n_users, self.n_items)
        # scipy sorts and joins the entries of a row in place, and histories must stay as they are.
        arrays = ones, self.item_index.copy(), self.user_offsets.copy()
        matrix = sp.csr_array(arrays, shape=shape)
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of ids, order, ratings, timestamps, `repeats`, events and sessions."""
        sha = hashlib.sha256()
        for array in (self.user_index, self.item_index, self.rating, self.timestamp):
            sha.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        for vocabulary in (self.users, self.items):
            sha.update(repr(vocabulary.ids.tolist()).encode())
        if self.repeats:
            sha.update(b"repeats")
        for name in _OPTIONAL:
            if (array := getattr(self, name)) is not None:
                sha.update(name.encode() + array.tobytes())
        if self.sessions is not None:
            for array in (self.sessions.offsets, self.sessions.user_index):
                sha.update(b"sessions" + array.tobytes())
            sha.update(repr(self.sessions.users.ids.tolist()).encode())
        return sha.hexdigest()


def _check_rows(log: Interactions) -> None:
    """Refuse rows with a value that was not parsed, or in another order, with a `DataError`."""
    n, item, time, offsets = len(log), log.item_index, log.timestamp, log.user_offsets
    lengths = np.diff(offsets)
    fits = len(lengths) == log.n_users and offsets[0] == 0 and offsets[-1] == n
    columns = (log.user_index, log.rating, time, log.weight, log.in_sequence, log.is_return)
    differs = [column is not None and len(column) != n for column in columns]
    if not fits or any(differs) or (lengths < 0).any():
        raise DataError(f"interactions: the columns or user_offsets do not fit {n:,} items")
    unit = "user"
    history = user = np.repeat(np.arange(log.n_users, dtype=np.int32), lengths)
    tests = [
        (user != log.user_index, "user_offsets do not fit the user index"),
        ((item < 0) | (item >= log.n_items), "the item index is out of range"),
    ]
    if log.sessions is not None:
        history, unit = _check_sessions(log.sessions, n), "session"
        is_torn = (history[1:] == history[:-1]) & (user[1:] != user[:-1])
        tests.append((is_torn, "the session goes on in the rows of another user"))
    if log.rating is not None:
        tests.append((~np.isfinite(log.rating), "the rating is not a finite number"))
    if time is not None:
        is_unsorted = (time[1:] < time[:-1]) & (history[1:] == history[:-1])
        tests.append((time == np.iinfo(np.int64).min, "the timestamp was not parsed"))
        tests.append((is_unsorted, f"the next row of the {unit} is earlier"))
    if log.weight is not None:
        is_weight = np.isfinite(log.weight) & (log.weight >= 0)
        tests.append((~is_weight, "the weight is not a finite number of 0 or more"))
    for mask, message in tests:
        if mask.any():
            raise DataError(f"interactions, row {mask.argmax():,}: {message}")


def _check_sessions(sessions: Sessions, n: int) -> NDArray[np.int32]:
    """Return the session of each of n rows, or raise a `DataError` if they do not fit."""
    offsets, owner, n_users = sessions.offsets, sessions.user_index, len(sessions.users)
    fits = len(offsets) == len(owner) + 1 and offsets[0] == 0 and offsets[-1] == n
    is_ascending = (np.diff(offsets) >= 0).all() and (np.diff(owner) >= 0).all()
    if not (fits and is_ascending and (owner[-1:] < n_users).all() and (owner[:1] >= 0).all()):
        raise DataError(f"interactions: the offsets or users of sessions do not fit {n:,} items")
    return np.repeat(np.arange(len(owner), dtype=np.int32), np.diff(offsets))


def lengths_to_offsets(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Start of each of n consecutive slices, and the end of the last, [n + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def save_interactions(interactions: Interactions, folder: str | Path) -> Path:
    """Write interactions to a folder, atomically.

    The folder holds `manifest.json` (size and SHA-256 of every file), `events.npz` (the arrays),
    `users.parquet` (user ids in index order), `catalogue.parquet` (items in index order) and, if
    there are sessions, `sessions.parquet` (user id and number of rows of each, in order).
    """
    require_type(interactions, Interactions, "read_ratings")
    folder = to_path(folder, ConfigError)
    names = "user_index", "item_index", "rating", "timestamp", *_OPTIONAL
    arrays = {n: array for n in names if (array := getattr(interactions, n)) is not None}
    with atomic_folder(folder) as tmp_path:
        write_arrays(tmp_path / "events.npz", **arrays)
        users = pd.DataFrame({columns.USER_ID: interactions.users.ids})
        users.to_parquet(tmp_path / "users.parquet", index=False)
        if (sessions := interactions.sessions) is not None:
            owners = sessions.users.ids[sessions.user_index]
            table = pd.DataFrame({columns.USER_ID: owners, "n_rows": sessions.lengths})
            table.to_parquet(tmp_path / "sessions.parquet", index=False)
        interactions.catalogue.to_parquet(tmp_path / "catalogue.parquet", index=False)
        write_manifest(
            tmp_path,
            format=FORMAT,
            digest=interactions.digest,
            scale=interactions.scale,
            repeats=interactions.repeats,
        )
    return folder


def load_interactions(folder: str | Path) -> Interactions:
    """Read interactions that `save_interactions` wrote.

    Raises:
        BundleError: The folder does not hold interactions, or a file is missing or damaged.
    """
    folder = to_path(folder, BundleError)
    manifest = verify_manifest(folder)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{folder} has format {manifest.get('format')!r}, not {FORMAT!r}")
    events = read_arrays(folder / "events.npz")
    users = Vocabulary(pd.read_parquet(folder / "users.parquet")[columns.USER_ID].to_numpy())
    catalogue = pd.read_parquet(folder / "catalogue.parquet")
    lengths = np.bincount(events["user_index"], minlength=len(users))
    sessions = None
    if "sessions.parquet" in manifest["files"]:
        table = pd.read_parquet(folder / "sessions.parquet")
        owner, ids = pd.factorize(table[columns.USER_ID].to_numpy())
        offsets = lengths_to_offsets(table["n_rows"].to_numpy())
        sessions = Sessions(offsets, owner.astype(np.int32), Vocabulary(ids))
    scale = manifest.get("scale")
    return Interactions(
        user_index=events["user_index"],
        item_index=events["item_index"],
        rating=events.get("rating"),
        timestamp=events.get("timestamp"),
        user_offsets=lengths_to_offsets(lengths),
        users=users,
        items=Vocabulary(catalogue[columns.ITEM_ID].to_numpy()),
        catalogue=catalogue,
        scale=None if scale is None else (scale[0], scale[1]),
        repeats=manifest.get("repeats", False),
        **{name: events.get(name) for name in _OPTIONAL},
        sessions=sessions,
    )


def to_unix(time: TimestampLike) -> int:
    """Convert to seconds since 1970, rounded up to a whole second.

    Raises:
        ConfigError: The value is not a point in time.
    """
    try:
        if not isinstance(time, str | datetime):
            return to_int("time", time, -sys.maxsize)
        # "" and "NaT" give NaN, which math.ceil refuses.
        return math.ceil(pd.Timestamp(time).timestamp())
    except (ConfigError, ValueError) as error:
        raise ConfigError(
            f"{shown(time)} is not a time: write a date (2015-03-31), a date and time "
            "(2015-03-31 12:00), or whole seconds since 1970"
        ) from error


def format_time_range(timestamp: NDArray[np.int64]) -> str:
    """Describe the range of some timestamps, for messages."""
    if not len(timestamp):
        return "empty"
    first, last = np.datetime64(int(timestamp.min()), "s"), np.datetime64(int(timestamp.max()), "s")
    return f"from {first} to {last} UTC"
