"""Sessions of a log: slices of its rows, from a column or from gaps in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.errors import DataError
from recsys.vocabulary import Vocabulary

_Codes = NDArray[np.int32]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sessions:
    """The sessions of a log, as slices of its rows. Those of a user are adjacent, by their start.

    In an anonymous log, every session has a user of its own.
    """

    offsets: _Ints
    """Rows of session s are `offsets[s]` to `offsets[s + 1]`, [n_sessions + 1]."""
    user_index: _Codes
    """Whose session it is, as an index in `users`, ascending, [n_sessions]."""
    users: Vocabulary

    def __len__(self) -> int:
        return len(self.user_index)

    def __repr__(self) -> str:
        return f"<Sessions: {len(self):,} of {len(self.users):,} users>"

    @property
    def lengths(self) -> _Ints:
        """Number of rows of each session, [n_sessions]."""
        return np.diff(self.offsets)

    def filter(self, mask: NDArray[np.bool_]) -> Sessions:
        """The same sessions with the rows where `mask` ([n_rows]) is true."""
        offsets = np.concatenate([[0], np.cumsum(mask)])[self.offsets]
        return Sessions(offsets, self.user_index, self.users)

    def compact(self) -> Sessions:
        """The sessions that have rows, and their users."""
        has_rows = self.lengths > 0
        owner = self.user_index[has_rows]
        has_session = np.bincount(owner, minlength=len(self.users)) > 0
        return Sessions(
            np.append(self.offsets[:-1][has_rows], self.offsets[-1]),
            np.cumsum(has_session, dtype=np.int32)[owner] - np.int32(1),
            Vocabulary(self.users.ids[has_session]),
        )


def number_sessions(
    user: _Codes, session: _Codes, ticks: _Ints | None
) -> tuple[_Codes, _Codes, _Codes]:
    """Find the distinct pairs of a user and the id of a session, in order of user and start.

    A session starts with its earliest row, or with its first if there are no times. Returns the
    number of the session of each row, [n], and the user and id of each session, [n_sessions].

    Example:
        >>> user, session = np.array([0, 1, 0, 0]), np.array([5, 5, 4, 5])
        >>> number_sessions(user, session, np.array([30, 10, 20, 40]))[0].tolist()
        [1, 2, 0, 1]
    """
    n_ids = int(session.max(initial=0)) + 1
    # By their first rows, which decides between sessions that start at the same time.
    code, pairs = pd.factorize(user.astype(np.int64) * n_ids + session)
    owner, id_index = (part.astype(np.int32) for part in np.divmod(pairs, n_ids))
    start = np.arange(len(pairs))
    if ticks is not None:
        start = np.full(len(pairs), np.iinfo(np.int64).max)
        np.minimum.at(start, code, ticks)
    order = np.lexsort((start, owner))
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank[code], owner[order], id_index[order]


def cut_at_gaps(user: _Codes, ticks: _Ints, longest: int) -> _Ints:
    """Offsets of sessions, [n_sessions + 1], in rows that are sorted by user and time.

    A session ends before a row that is more than `longest` ticks after the one before it.

    Example:
        >>> cut_at_gaps(np.array([0, 0, 0, 1]), np.array([0, 30, 61, 61]), 30).tolist()
        [0, 2, 3, 4]
    """
    is_later = (np.diff(ticks) > longest) | (np.diff(user) != 0)
    return np.concatenate([[0], np.flatnonzero(is_later) + 1, [len(user)]])


def name_sessions(sessions: Sessions, ids: NDArray[Any]) -> Vocabulary:
    """The ids, [n_sessions], of a column if all differ; else, or if they are starts, `user/id`.

    Raises:
        DataError: two sessions have the same name.
    """
    if ids.dtype.kind != "U" and len(pd.unique(ids)) == len(ids):
        return Vocabulary(ids)
    owners = sessions.users.ids[sessions.user_index].tolist()
    text = [f"{owner}/{session}" for owner, session in zip(owners, ids.tolist(), strict=True)]
    if (is_repeated := pd.Series(text).duplicated()).any():  # ids contain '/', too
        raise DataError(f"two sessions would be called {text[is_repeated.argmax()]!r}: rename one")
    return Vocabulary(np.array(text, dtype=object))
