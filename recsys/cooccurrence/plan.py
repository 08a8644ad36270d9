"""Which of two ways to count each row, from what each would cost on this data.

Row i of X can be had by *gathering*, that is by going over the histories of the users who liked i
and adding one for each item met; or, XX
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
_LIKE: Final = 0.7
"""Adding one for one like."""
_USER: Final = 25.0
"""Finding a user's history in memory."""
_ADD: Final = 12.0
"""Adding the bits of one user, beside what each word takes."""
_WORD: Final = 0.2
"""Adding 64 columns of one user, where the bits of all users fit the cache."""
_FAR_WORD: Final = 0.55
"""The same where they do not."""
_CACHE: Final = 16_000_000
"""Bytes that stay in the cache."""
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
    meets: NDArray[np.int64]
    """How many items are met in their histories, g_i, [n_items]."""
    is_met: NDArray[np.int64]
    """How often it is met itself when all rows are gathered, [n_items]."""
    n_columns: NDArray[np.int64]
    """How many columns its row has, [n_items]."""


def choose_head(audiences: Audiences, n_users: int, max_bytes: int) -> NDArray[np.int32]:
    """The items to count by bits, ascending; none where gathering is cheaper.

    Args:
        audiences: of all items.
        n_users: how many users have bits.
        max_bytes: the most memory that the bits may take.
    """
    n_items = len(audiences.is_met)
    most_met = np.argsort(-audiences.is_met, kind="stable")
    outside = np.concatenate([audiences.is_met[most_met][::-1].cumsum()[::-1], [0]])
    best, least = 0, outside[0] * _LIKE
    for size in (min(size, n_items) for size in HEAD_SIZES):
        cost = _bits(audiences, size, n_users).sum() + outside[size] * _LIKE
        if cost < least and n_users * words_for(size) * 8 <= max_bytes:
            best, least = size, cost
    return np.sort(most_met[:best]).astype(np.int32)


def _bits(audiences: Audiences, head_size: int, n_users: int) -> NDArray[np.float64]:
    """What adding up bits costs in each row, [n_items]."""
    is_near = n_users * words_for(head_size) * 8 <= _CACHE
    word = _WORD if is_near else _FAR_WORD
    columns = np.minimum(audiences.n_columns, head_size)
    lines = -(-columns // COLUMNS)
    # The sums take as many planes as their largest has bits, three at least.
    planes = np.maximum(np.ceil(np.log2(audiences.n_users + 1.0)), 3.0)
    cost: NDArray[np.float64] = (
        audiences.n_users * (_ADD + word * LINE * lines) + columns * _PLANE * planes
    )
    return cost


def rows_by_bits(
    audiences: Audiences, tail_meets: NDArray[np.int64], head_size: int, n_users: int
) -> NDArray[np.bool_]:
    """Which rows are cheaper with bits than by gathering alone, [n_items].

    Args:
        audiences: of all items.
        tail_meets: how many items outside the head are met in their histories, t_i, [n_items].
        head_size: how many items have bits.
        n_users: how many users have bits.
    """
    if not head_size:
        return np.zeros(len(tail_meets), np.bool_)
    adding = _bits(audiences, head_size, n_users) + audiences.n_users * _USER
    cheaper: NDArray[np.bool_] = adding < (audiences.meets - tail_meets) * _LIKE
    return cheaper


@dataclass(frozen=True)
class Budget:
    """What counting may take of the memory, where there is a choice."""

    head_bytes: int = HEAD_BYTES
    """For packed bits."""
    block_entries: int = BLOCK_ENTRIES
    """Entries of a row block; each thread has room for one."""
