"""Counting many columns of bits at once, 512 to a vector.

For an item and its audience, how many of them liked each of H popular items? With the likes of
each user packed into H bits, that is a sum of bit vectors, column by column. The sums are kept in
vertical counters: plane k holds bit k of all H sums, so that adding a user takes a few bitwise
operations for each vector of columns, where a loop over the history takes one addition for each
like.

Eight users at a time pass through seven carry-save adders, and what these carry, weighing eight,
is kept until there are two to be added at once, whose carry, weighing sixteen, is kept in turn:
about one adder for each user in all (Harley & Seal's population count, in Warren 2013, "Hacker's
Delight", 2nd ed., §5-1; for columns of bits: Klarqvist, Muła & Lemire 2021, "Efficient computation
of positional population counts using SIMD instructions").
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence.kernels import compiled, prefetch
from recsys.cooccurrence.parts import equal_parts, side_by_side
from recsys.cooccurrence.plan import LINE, words_for
from recsys.cooccurrence.positives import Lists
from recsys.cooccurrence.simd import add_bits, add_eight, aligned_zeros

Words = NDArray[np.uint64]

_EIGHTS: Final = 3
"""The plane of what weighs eight."""


def pack_bits(histories: Lists, head: NDArray[np.int32], n_items: int, threads: int = 1) -> Words:
    """One bit for each user and head item, set where the user has it, [n_users, words].

    Args:
        histories: the items of each user.
        head: the item of each column.
        n_items: size of the catalogue.
        threads: how many to pack with.
    """
    column = np.full(n_items, -1, np.int32)
    column[head] = np.arange(len(head))
    bits = aligned_zeros(len(histories.offsets) - 1, words_for(len(head)))
    side_by_side(
        lambda start, stop: _pack(histories, column, start, stop, bits),
        equal_parts(histories.offsets, threads),
    )
    return bits


@compiled
def _pack(histories: Lists, column: NDArray[np.int32], start: int, stop: int, bits: Words) -> None:
    for user in range(start, stop):
        for item in histories.values[histories.offsets[user] : histories.offsets[user + 1]]:
            if column[item] >= 0:
                bits[user, column[item] >> 6] |= np.uint64(1) << np.uint64(column[item] & 63)


@compiled
def n_planes_for(n_users: int) -> int:
    """How many planes the sums over so many users take; the first three are always there."""
    n_planes = _EIGHTS
    while n_users >> n_planes:
        n_planes += 1
    return n_planes


@compiled
def room_for(n_users: int, n_words: int) -> Words:
    """Room for `sum_bits` to work in."""
    return np.empty((2 * n_planes_for(n_users) + 1) * n_words, np.uint64)


@compiled
def sum_bits(users: NDArray[np.int32], bits: Words, sums: NDArray[Any], room: Words) -> None:
    """Set the sums of the first columns to how many of `users` have the bit.

    Args:
        users: who to add up.
        bits: as packed.
        sums: of as many columns as are wanted, in whole cache lines of bits.
        room: at least `room_for` as many users and columns.
    """
    n_words = len(sums) // 64
    n_planes = n_planes_for(len(users))
    in_planes = n_planes * n_words
    flat = room[:in_planes]
    flat[:] = 0
    planes = flat.reshape((n_planes, n_words))
    kept = room[in_planes : 2 * in_planes].reshape((n_planes, n_words))
    carry = room[2 * in_planes : 2 * in_planes + n_words]
    n_eights = len(users) // 8
    for group in range(n_eights):
        _fetch(users[8 * group + 8 : 8 * group + 16], bits, n_words)
        _add_users(users[8 * group : 8 * group + 8], bits, flat, carry)
        _carry_on(group + 1, planes, kept, carry)
    for level in range(_EIGHTS, n_planes):
        if n_eights >> (level - _EIGHTS) & 1:
            _add(kept[level], level, planes)
    for user in users[8 * n_eights :]:
        carry[:] = bits[user, :n_words]
        _add(carry, 0, planes)
    sums[:] = 0
    for word in range(n_words):
        for k in range(n_planes):
            add_bits(planes[k, word], 1 << k, sums, word * 64)


@compiled
def _fetch(users: NDArray[np.int32], bits: Words, n_words: int) -> None:
    """Have the cache fetch the bits of users who are next."""
    flat = bits.reshape(bits.size)
    for user in users:
        for word in range(0, n_words, LINE):
            prefetch(flat, np.int64(user) * bits.shape[1] + word)


@compiled
def _add_users(users: NDArray[np.int32], bits: Words, planes: Words, carry: Words) -> None:
    """Add eight users to the first three planes; what overflows goes to `carry`."""
    flat, width, u = bits.reshape(bits.size), bits.shape[1], users.astype(np.int64)
    rows = (
        u[0] * width,
        u[1] * width,
        u[2] * width,
        u[3] * width,
        u[4] * width,
        u[5] * width,
        u[6] * width,
        u[7] * width,
    )
    for word in range(0, len(carry), LINE):
        add_eight(planes, len(carry), word, flat, rows, carry)


@compiled
def _carry_on(n_carried: int, planes: Words, kept: Words, carry: Words) -> None:
    """Take a carry that weighs eight, the `n_carried`-th, to where it has to wait for another.

    As when counting in binary: the first waits, the second is added together with it and their
    carry waits one plane further up, the third waits, and the fourth goes two planes up.
    """
    level = _EIGHTS
    while n_carried & 1 == 0:
        plane, other = planes[level], kept[level]
        for word in range(len(carry)):
            half = plane[word] ^ other[word]
            both = (plane[word] & other[word]) | (half & carry[word])
            plane[word] = half ^ carry[word]
            carry[word] = both
        level += 1
        n_carried >>= 1
    if level < len(kept):
        kept[level] = carry


@compiled
def _add(carry: Words, first: int, planes: Words) -> None:
    """Add bits that weigh 2^first to the planes; they are used up."""
    for plane in planes[first:]:
        for word in range(len(carry)):
            both = plane[word] & carry[word]
            plane[word] ^= carry[word]
            carry[word] = both
