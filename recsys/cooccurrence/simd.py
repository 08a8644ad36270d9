"""Operations on whole cache lines of bits, for compiled loops.

A compiler makes vector instructions of a loop only if it can rule out that the arrays overlap, and
with a dozen arrays at once it does not try. Here they are asked for: LLVM makes of vectors of eight
words what the processor has, one AVX-512 register or several narrower ones.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from recsys.cooccurrence.plan import LINE

_WORDS: Final = ir.VectorType(ir.IntType(64), LINE)
_COUNTS: Final = ir.VectorType(ir.IntType(32), 64)


def aligned_zeros(n_rows: int, n_words: int) -> NDArray[np.uint64]:
    """Zeros, [n_rows, n_words], the first of which begins a cache line."""
    room = np.zeros(n_rows * n_words + LINE, np.uint64)
    skip = -(room.ctypes.data // 8) % LINE
    return room[skip : skip + n_rows * n_words].reshape(n_rows, n_words)


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Where in a one-dimensional array a vector begins."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _load(builder: Any, place: Any, align: int) -> Any:
    vector = builder.load(place)
    vector.align = align
    return vector


def _store(builder: Any, vector: Any, place: Any, align: int) -> None:
    builder.store(vector, place).align = align


def _carry_save(builder: Any, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
    """The sum of three bits, and what it carries, in each of 512 columns."""
    half = builder.xor(x, y)
    carry = builder.or_(builder.and_(x, y), builder.and_(half, z))
    return builder.xor(half, z), carry


if TYPE_CHECKING:
    Rows = tuple[int, int, int, int, int, int, int, int]

    def add_eight(
        planes: NDArray[np.uint64],
        n_words: int,
        word: int,
        bits: NDArray[np.uint64],
        rows: Rows,
        carry: NDArray[np.uint64],
    ) -> None:
        """Add eight rows of bits, in the line that begins with `word`, into three planes.

        Args:
            planes: the ones, the twos and the fours, `n_words` each, one after the other.
            n_words: how many words a plane has.
            word: where the line begins.
            bits: the rows, all in one array.
            rows: where in it each row begins.
            carry: receives what overflows, weighing eight, [n_words].
        """

    def add_bits(word: np.uint64, weight: int, sums: NDArray[np.int32], start: int) -> None:
        """Add `weight` to each of sums[start : start + 64] whose bit of `word` is set."""

else:

    @intrinsic
    def add_eight(_context, planes, n_words, word, bits, rows, carry):  # noqa: ARG001
        """Add eight rows of bits, in the line that begins with `word`, into three planes."""

        def generate(context, builder, signature, arguments):
            planes, n_words, word, bits, rows, carry = arguments
            kinds = signature.args

            def line(number, array, index):
                return _place(context, builder, kinds[number], array, index, _WORDS)

            twice = builder.add(n_words, n_words)
            places = [
                line(0, planes, word),
                line(0, planes, builder.add(word, n_words)),
                line(0, planes, builder.add(word, twice)),
            ]
            ones, twos, fours = (_load(builder, place, 8) for place in places)
            begins = [builder.add(builder.extract_value(rows, k), word) for k in range(8)]
            u = [_load(builder, line(3, bits, begin), 8) for begin in begins]
            ones, two_a = _carry_save(builder, ones, u[0], u[1])
            ones, two_b = _carry_save(builder, ones, u[2], u[3])
            twos, four_a = _carry_save(builder, twos, two_a, two_b)
            ones, two_a = _carry_save(builder, ones, u[4], u[5])
            ones, two_b = _carry_save(builder, ones, u[6], u[7])
            twos, four_b = _carry_save(builder, twos, two_a, two_b)
            fours, eights = _carry_save(builder, fours, four_a, four_b)
            for vector, place in zip((ones, twos, fours), places, strict=True):
                _store(builder, vector, place, 8)
            _store(builder, eights, line(5, carry, word), 8)
            return context.get_dummy_value()

        eight = types.UniTuple(types.int64, 8)
        return types.void(planes, types.int64, types.int64, bits, eight, carry), generate

    @intrinsic
    def add_bits(_context, word, weight, sums, start):  # noqa: ARG001
        """Add `weight` to each of sums[start : start + 64] whose bit of `word` is set."""

        def generate(context, builder, signature, arguments):
            word, weight, sums, start = arguments
            number = ir.IntType(32)
            place = _place(context, builder, signature.args[2], sums, start, _COUNTS)
            is_set = builder.bitcast(word, ir.VectorType(ir.IntType(1), 64))
            undefined = ir.Constant(_COUNTS, ir.Undefined)
            first = builder.insert_element(
                undefined, builder.trunc(weight, number), ir.Constant(number, 0)
            )
            everywhere = builder.shuffle_vector(first, undefined, ir.Constant(_COUNTS, [0] * 64))
            added = builder.select(is_set, everywhere, ir.Constant(_COUNTS, [0] * 64))
            _store(builder, builder.add(_load(builder, place, 4), added), place, 4)
            return context.get_dummy_value()

        return types.void(types.uint64, types.int64, sums, types.int64), generate
