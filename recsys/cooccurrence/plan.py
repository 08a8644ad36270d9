"""Which of two ways to count each row, from what each would cost on this data.

Row i of X can be had by *gathering*, that is by going over the histories of the users who liked i
and adding one for each item met; or, for the items of a *head*, by adding up packed bits. For a
head of H items, an audience n_i, and the sum g_i of the lengths of its histories, of which t_i
outside the head:

    gathering    n_i · user + g_i · like
    bits         n_i · (user + add + word · H/64) + H · plane · log₂ n_i  +  n_i · user + t_i · like

where the costs of one step, below, are those of one core of a server of 2023. The head consists
of the items that cost most to gather, since Σ_i t_i = Σ_{j outside the head} g_j; its size is the
one that makes the total least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence.rows import BLOCK_ENTRIES

# Nanoseconds.
_LIKE: Final = 1.0
"""Adding one for one like."""
_USER: Final = 25.0
"""Finding a user's history in memory."""
_ADD: Final = 12.0
"""Adding the bits of one user, beside what each word takes."""
_WORD: Final = 0.25
"""Adding 64 columns of one user."""
_PLANE: Final = 0.06
"""Reading one bit of one column's sum."""

LINE: Final = 8
"""Words of 64 bits in a cache line: what is added at a time."""
COLUMNS: Final = 64 * LINE
"""Bits in a cache line."""
HEAD_SIZES: Final = (512, 1024, 2048, 4096, 8192, 16384)
HEAD_BYTES: Final = 400_000_000
"""The most memory that packed bits may take."""


def words_for(n_columns: int) -> int:
    """How many words the bits of so many columns take: whole cache lines."""
    return -(-n_columns // COLUMNS) * LINE


@dataclass(frozen=True)
class Audiences:
    """What the choice depends on, for each item."""

    n_users: NDArray[np.int64]
    """How many users liked it, [n_items]."""
    reach: NDArray[np.int64]
    """The sum of the lengths of their histories, [n_items]."""


def choose_head(audiences: Audiences, n_users: int, max_bytes: int) -> NDArray[np.int32]:
    """The items to count by bits, ascending; none where gathering is cheaper.

    Args:
        audiences: of all items.
        n_users: how many users have bits.
        max_bytes: the most memory that the bits may take.
    """
    n_items = len(audiences.reach)
    dearest_first = np.argsort(-audiences.reach, kind="stable")
    outside = np.concatenate([audiences.reach[dearest_first][::-1].cumsum()[::-1], [0]])
    n_likes = int(audiences.n_users.sum())
    planes = float(_planes(audiences.n_users).sum())
    best, least = 0, outside[0] * _LIKE
    for size in (min(size, n_items) for size in HEAD_SIZES):
        words = words_for(size)
        cost = n_likes * (_ADD + _WORD * words) + size * _PLANE * planes + outside[size] * _LIKE
        if cost < least and n_users * words * 8 <= max_bytes:
            best, least = size, cost
    return np.sort(dearest_first[:best]).astype(np.int32)


def rows_by_bits(
    audiences: Audiences, tail_reach: NDArray[np.int64], head_size: int
) -> NDArray[np.bool_]:
    """Which rows are cheaper with bits than by gathering alone, [n_items].

    Args:
        audiences: of all items.
        tail_reach: the sum of the lengths of their users' histories outside the head, [n_items].
        head_size: how many items have bits.
    """
    if not head_size:
        return np.zeros(len(tail_reach), np.bool_)
    adding = audiences.n_users * (_USER + _ADD + _WORD * words_for(head_size))
    reading = head_size * _PLANE * _planes(audiences.n_users)
    cheaper: NDArray[np.bool_] = adding + reading < (audiences.reach - tail_reach) * _LIKE
    return cheaper


def _planes(n_users: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many bits the sums take, at least the three that are always there."""
    planes: NDArray[np.float64] = np.maximum(np.ceil(np.log2(n_users + 1.0)), 3.0)
    return planes


@dataclass(frozen=True)
class Budget:
    """What counting may take of the memory, where there is a choice."""

    head_bytes: int = HEAD_BYTES
    """For packed bits."""
    block_entries: int = BLOCK_ENTRIES
    """Entries of a row block; each thread has room for one."""
