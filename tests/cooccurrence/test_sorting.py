"""Sorted sets and audiences are those that sorting and searching give."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence.parts import equal_parts, side_by_side
from recsys.cooccurrence.positives import Lists
from recsys.cooccurrence.sorting import (
    count_meetings,
    count_values,
    keep_values,
    sort_sets,
    transpose,
)

N_VALUES = 9_000  # more than 64 × 64, which one word of the summary stands for

histories = st.lists(
    st.lists(st.integers(0, 20) | st.integers(0, N_VALUES - 1), max_size=12), max_size=8
)
threads = st.integers(1, 4)


def lists_of(rows):
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Lists(offsets, np.array([value for row in rows for value in row], np.int32))


def rows_of(lists):
    return [row.tolist() for row in np.split(lists.values, lists.offsets[1:-1])][
        : len(lists.offsets) - 1
    ]


@given(histories, threads, st.booleans())
def test_sets_ascend_by_their_new_names(rows, threads, renamed):
    place = np.arange(N_VALUES, dtype=np.int32)
    if renamed:
        place = np.random.default_rng(0).permutation(place)
    found = sort_sets(lists_of(rows), place, threads)
    assert rows_of(found) == [sorted({int(place[value]) for value in row}) for row in rows]


@given(histories, threads)
def test_a_transposed_list_holds_who_holds_the_value(rows, threads):
    rows = [sorted(set(row)) for row in rows]
    found = transpose(lists_of(rows), N_VALUES, threads)
    expected = [[] for _ in range(N_VALUES)]
    for number, row in enumerate(rows):
        for value in row:
            expected[value].append(number)
    assert rows_of(found) == expected


@given(histories, threads)
def test_what_is_kept_stays_in_order(rows, threads):
    is_kept = np.arange(N_VALUES) % 3 > 0
    found = keep_values(lists_of(rows), is_kept, threads)
    assert rows_of(found) == [[value for value in row if value % 3] for row in rows]


@given(histories, st.booleans(), threads)
def test_meetings_are_those_of_pairs(rows, lower, threads):
    rows = [sorted(set(row)) for row in rows]
    is_met = np.arange(N_VALUES) % 3 > 0
    expected = np.zeros(N_VALUES, int)
    for row in rows:
        for value, other in permutations(row, 2):
            expected[value] += is_met[other] and (other < value or not lower)
    found = count_meetings(lists_of(rows), is_met, lower, threads)
    assert found.tolist() == expected.tolist()


@given(histories)
def test_values_are_counted_with_repetitions(rows):
    found = count_values(lists_of(rows), N_VALUES)
    expected = Counter(value for row in rows for value in row)
    assert dict(enumerate(found.tolist())) == {value: expected[value] for value in range(N_VALUES)}


@given(st.lists(st.integers(0, 9)), threads)
def test_parts_follow_one_another_and_leave_nothing_out(lengths, n):
    offsets = np.cumsum([0, *lengths])
    parts = equal_parts(offsets, n)
    assert len(parts) <= n
    assert [row for part in parts for row in range(*part)] == list(range(len(lengths)))


def test_an_error_in_a_part_is_raised():
    def fail(start, stop):
        raise ValueError(f"{start} to {stop}")

    with pytest.raises(ValueError, match="0 to 2"):
        side_by_side(fail, [(0, 2), (2, 4)])
