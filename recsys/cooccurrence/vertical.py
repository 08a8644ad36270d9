"""Counting many columns of bits at once, 64 to a machine word.

For an item and its audience, how many of them liked each of H popular items? With the likes of
each user packed into H bits, that is a sum of bit vectors, column by column. The sums are kept in
vertical counters: plane k holds bit k of all H sums, so that adding a user takes a few bitwise
operations for each 64 columns, where a loop over the history takes one addition for each like.

Eight users at a time pass through seven carry-save adders (Harley & Seal's population count, in
Warren 2013, "Hacker's Delight", 2nd ed., §5-1; for columns of bits: Klarqvist, Muła & Lemire
2021, "Efficient computation of positional population counts using SIMD instructions").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence.kernels import compiled, prefetch
from recsys.cooccurrence.positives import Lists

Words = NDArray[np.uint64]


@compiled
def pack_bits(histories: Lists, head: NDArray[np.int32], n_items: int) -> Words:
    """One bit for each user and head item, set where the user has it, [n_users, words]."""
    column = np.full(n_items, -1, np.int32)
    column[head] = np.arange(len(head))
    bits = np.zeros((len(histories.offsets) - 1, (len(head) + 63) // 64), np.uint64)
    for user in range(len(bits)):
        for item in histories.values[histories.offsets[user] : histories.offsets[user + 1]]:
            if column[item] >= 0:
                bits[user, column[item] >> 6] |= np.uint64(1) << np.uint64(column[item] & 63)
    return bits


@compiled
def _add_carry(planes: Words, first: int, carry: Words) -> None:
    """Add `carry`, whose bits weigh 2^first, into the planes."""
    for plane in planes[first:]:
        for word in range(len(carry)):
            both = plane[word] & carry[word]
            plane[word] ^= carry[word]
            carry[word] = both


@compiled
def _add_eight(planes: Words, bits: Words, users: NDArray[np.int32], carry: Words) -> None:
    """Add eight users; what overflows the first three planes, weighing 8, goes to `carry`."""
    ones, twos, fours = planes[0], planes[1], planes[2]
    u0, u1, u2, u3 = bits[users[0]], bits[users[1]], bits[users[2]], bits[users[3]]
    u4, u5, u6, u7 = bits[users[4]], bits[users[5]], bits[users[6]], bits[users[7]]
    for w in range(len(carry)):
        half = ones[w] ^ u0[w]
        two_a = (ones[w] & u0[w]) | (half & u1[w])
        one = half ^ u1[w]
        half = one ^ u2[w]
        two_b = (one & u2[w]) | (half & u3[w])
        one = half ^ u3[w]
        half = twos[w] ^ two_a
        four_a = (twos[w] & two_a) | (half & two_b)
        two = half ^ two_b
        half = one ^ u4[w]
        two_a = (one & u4[w]) | (half & u5[w])
        one = half ^ u5[w]
        half = one ^ u6[w]
        two_b = (one & u6[w]) | (half & u7[w])
        ones[w] = half ^ u7[w]
        half = two ^ two_a
        four_b = (two & two_a) | (half & two_b)
        twos[w] = half ^ two_b
        half = fours[w] ^ four_a
        carry[w] = (fours[w] & four_a) | (half & four_b)
        fours[w] = half ^ four_b


@compiled
def sum_bits(
    users: NDArray[np.int32],
    bits: Words,
    head: NDArray[np.int32],
    counts: NDArray[Any],
    planes: Words,
    carry: Words,
) -> None:
    """Set the counts of the first head items to how many of `users` have them.

    Args:
        users: who to add up.
        bits: as packed.
        head: the item of each column.
        counts: where to put the sums, [n_items].
        planes: room for the counters, [at least 3 and the bits of len(users), words]; its
            width says how many columns to add up.
        carry: room for one more plane, [words].
    """
    n_planes = 3
    while len(users) >> n_planes:
        n_planes += 1
    planes = planes[:n_planes]
    planes[:] = 0
    n_words = len(carry)
    added = 0
    flat = bits.reshape(bits.size)
    while added + 8 <= len(users):
        for user in users[added + 8 : added + 16]:
            for word in range(0, n_words, 8):
                prefetch(flat, np.int64(user) * bits.shape[1] + word)
        _add_eight(planes, bits, users[added : added + 8], carry)
        _add_carry(planes, 3, carry)
        added += 8
    for user in users[added:]:
        carry[:] = bits[user, :n_words]
        _add_carry(planes, 0, carry)
    sums = np.empty(64, np.uint64)
    for word in range(n_words):
        sums[:] = 0
        for k in range(n_planes):
            plane = planes[k, word]
            for bit in range(64):
                sums[bit] += ((plane >> np.uint64(bit)) & np.uint64(1)) << np.uint64(k)
        for bit in range(min(64, len(head) - word * 64)):
            counts[head[word * 64 + bit]] = sums[bit]
