"""Compiled loops over histories and audiences.

They release the interpreter's lock and share nothing, so that ordinary Python threads can run
them side by side: unlike numba's own parallel loops they need no threading layer, of which the
one that is always there, workqueue, must not be entered from two threads at once.

Importing this module imports numba, which takes a while: import it where something is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic
from numpy.typing import NDArray

from recsys.cooccurrence.positives import Lists

F = TypeVar("F", bound=Callable[..., Any])

AHEAD: Final = 8
"""How many histories ahead to fetch."""
Place = np.uint64
"""An index in the innermost loops: one that may be negative is looked at each time it is used."""


def compiled(function: F) -> F:
    """Compile on first use, once on a machine; without the interpreter's lock."""
    decorated: F = numba.njit(function, cache=True, nogil=True)
    return decorated


if TYPE_CHECKING:

    def trailing_zeros(word: np.uint64) -> int:
        """The position of the lowest set bit."""

    def prefetch(array: NDArray[Any], index: int) -> None:
        """Have the cache fetch an element of a one-dimensional array that is soon to be read."""

else:

    @intrinsic
    def trailing_zeros(_context, word):  # noqa: ARG001  numba needs the names of arguments
        """The position of the lowest set bit."""

        def generate(context, builder, _signature, arguments):
            false = context.get_constant(numba.types.boolean, False)
            return builder.cttz(arguments[0], false)

        return numba.types.int64(numba.types.uint64), generate

    @intrinsic
    def prefetch(_context, array, index):  # noqa: ARG001
        """Have the cache fetch an element of a one-dimensional array that is soon to be read."""

        def generate(context, builder, signature, arguments):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.PointerType())
            number = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), number, number, number])
            fetch = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            # To read, into every level of the cache, as data.
            builder.call(fetch, [address, number(0), number(3), number(1)])
            return context.get_dummy_value()

        return numba.types.void(array, numba.types.int64), generate


@compiled
def sum_over(lists: Lists, amounts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of the amounts of the values in each list."""
    sums = np.zeros(len(lists.offsets) - 1, np.int64)
    for row in range(len(sums)):
        for value in lists.values[lists.offsets[row] : lists.offsets[row + 1]]:
            sums[row] += amounts[value]
    return sums


@compiled
def gather(users: NDArray[np.int32], histories: Lists, counts: NDArray[Any], limit: int) -> None:
    """Count the items below `limit` in the histories of `users`."""
    for index, user in enumerate(users):
        # Histories lie all over the memory: waiting for each in turn would take most of the time.
        if index + AHEAD < len(users):
            prefetch(histories.offsets, users[index + AHEAD])
        if index + AHEAD // 2 < len(users):
            soon = histories.offsets[users[index + AHEAD // 2]]
            for line in range(0, 64, 16):
                prefetch(histories.values, soon + line)
        at, end = Place(histories.offsets[user]), Place(histories.offsets[user + 1])
        while at < end and histories.values[at] < limit:
            counts[Place(histories.values[at])] += 1
            at += Place(1)


@compiled
def gather_and_mark(
    users: NDArray[np.int32],
    histories: Lists,
    counts: NDArray[Any],
    marks: NDArray[np.uint64],
    limit: int,
) -> None:
    """As `gather`, and set the bit of each item counted: for rows with few of them."""
    for user in users:
        for item in histories.values[histories.offsets[user] : histories.offsets[user + 1]]:
            if item >= limit:
                break
            counts[item] += 1
            marks[item >> 6] |= np.uint64(1) << np.uint64(item & 63)


@compiled
def mark_all(counts: NDArray[Any], limit: int, marks: NDArray[np.uint64]) -> None:
    """Set the bit of each item below `limit` with a count: for rows with many of them."""
    for word in range(limit // 64):
        bits = np.uint64(0)
        for bit in range(64):  # without a branch, so that it is done eight at a time
            bits |= np.uint64(counts[word * 64 + bit] != 0) << np.uint64(bit)
        marks[word] = bits
    for item in range(limit // 64 * 64, limit):
        if counts[item] != 0:
            marks[item >> 6] |= np.uint64(1) << np.uint64(item & 63)


@compiled
def take_marked(
    counts: NDArray[Any],
    marks: NDArray[np.uint64],
    columns_out: NDArray[np.int32],
    counts_out: NDArray[Any],
    filled: int,
) -> int:
    """Append the marked counts, columns ascending, and set counts and marks to zero."""
    at = Place(filled)
    for word in range(len(marks)):
        bits = marks[word]
        marks[word] = 0
        while bits:
            item = Place(word * 64) + Place(trailing_zeros(bits))
            bits &= bits - np.uint64(1)
            columns_out[at] = item
            counts_out[at] = counts[item]
            counts[item] = 0
            at += Place(1)
    return int(at)
