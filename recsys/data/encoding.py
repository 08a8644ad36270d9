"""Encoding of columns as numbers, and sorting of rows by user and time with counting sorts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns as names
from recsys.config import available_threads
from recsys.data.catalogue import ItemTable, build_catalogue
from recsys.data.events import parse_events
from recsys.data.ids import EncodedColumn, encode_ids
from recsys.data.interactions import Interactions, lengths_to_offsets
from recsys.data.options import ReadOptions
from recsys.data.ratings import find_scale, parse_ratings
from recsys.data.sessions import (
    Sessions,
    cut_at_gaps,
    name_sessions,
    number_sessions,
)
from recsys.data.tables import EncodedTable, RawTable, Times
from recsys.data.times import POSITIONS, format_times, parse_times
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary

try:
    from numba import njit
except ModuleNotFoundError:  # the core installation: the same loops run as Python
    njit = None  # type: ignore[assignment]


_Codes = NDArray[np.int32]
_Ints = NDArray[np.int64]


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    return function if njit is None else njit(cache=True, nogil=True)(function)


_BLOCK: Final = 1 << 18
"""Rows processed at a time, so that temporary arrays stay in the cache."""


def encode(table: RawTable, options: ReadOptions = ReadOptions()) -> EncodedTable:
    """Convert a table to numbers. Values that cannot be parsed are marked, not rejected.

    Raises:
        DataError: The table lacks what `session_gap` or `histories` need.
    """
    columns = table.columns
    with ThreadPoolExecutor() as pool:
        ids = {
            name: pool.submit(encode_ids, columns[name], table.has_types)
            for name in names.IDS
            if name in columns
        }
        rating = pool.submit(parse_ratings, columns.get(names.RATING), options)
        describe = partial(table.describe, column=names.TIMESTAMP)
        timestamp = pool.submit(parse_times, columns.get(names.TIMESTAMP), options, describe)
        event = pool.submit(parse_events, columns.get(names.EVENT), options)
    encoded = {name: column.result() for name, column in ids.items()}
    times = timestamp.result()
    _require_sessions(table, times, options)
    return EncodedTable(encoded, rating.result(), times, event.result())


def _require_sessions(table: RawTable, times: Times | None, options: ReadOptions) -> None:
    """Raise a `DataError` if the log lacks the sessions that are wanted, or has two kinds."""
    gap, has_column = options.session_gap, names.SESSION_ID in table.columns
    problem = ""
    if gap and has_column:
        name, remedy = table.source_names[names.SESSION_ID], 'columns = {session_id = ""}'
        problem = (
            f"column {name!r} has sessions, but session_gap is set: remove it, or set {remedy}"
        )
    elif gap and (times is None or times.description == POSITIONS):
        problem = "session_gap needs a column 'timestamp' with points in time"
    elif options.histories == "session" and not (gap or has_column):
        problem = (
            "histories = 'session' needs session_gap or a column 'session_id'; map one of another "
            "name with columns="
        )
    if problem:
        raise DataError(f"{table.files[0].name}: {problem}")


def build_interactions(
    table: EncodedTable,
    mask: NDArray[np.bool_] | None,
    item_table: ItemTable | None,
    scale: tuple[float, float] | None = None,
    options: ReadOptions = ReadOptions(),
) -> tuple[Interactions, NDArray[Any]]:
    """Select rows (all if `mask` is None) and sort them by user, timestamp and input order.

    With sessions, they are sorted by user, start of the session, timestamp and input order.

    Return them with their positions in `table`, whose codes are overwritten to save memory. The
    scale of ratings is found if it is not given.
    """
    selected = None if mask is None else np.flatnonzero(mask)

    def select(values: NDArray[Any] | None) -> Any:
        return values if values is None or selected is None else values[selected]

    item_id, times = table.ids[names.ITEM_ID], table.timestamp
    item_index, items = _to_dense(item_id, select(item_id.codes))
    order, offsets, users, sessions = _sort_histories(table, select, options)
    rating, weight, in_sequence = select(table.rating), None, None
    if table.event is not None:
        weight = gather(select(table.event.row_weights), order)
        in_sequence = gather(select(table.event.rows_in_sequence), order)
        in_sequence = None if in_sequence.all() else in_sequence
        weight = None if in_sequence is None and (weight == 1).all() else weight
    interactions = Interactions(
        user_index=np.repeat(np.arange(len(users), dtype=np.int32), np.diff(offsets)),
        item_index=gather(item_index, order),
        rating=None if rating is None else gather(rating, order),
        timestamp=None if times is None else gather(select(times.seconds), order),
        user_offsets=offsets,
        users=users,
        items=items,
        catalogue=build_catalogue(items, item_table),
        scale=scale or find_scale(rating),
        sessions=sessions,
        weight=weight,
        in_sequence=in_sequence,
    )
    return interactions, order if selected is None else selected[order]


def _sort_histories(
    table: EncodedTable, select: Callable[[Any], Any], options: ReadOptions
) -> tuple[NDArray[Any], _Ints, Vocabulary, Sessions | None]:
    """Row positions in order, [n]; offsets and ids of the histories; and the sessions, if any."""
    times, session_id = table.timestamp, table.ids.get(names.SESSION_ID)
    ticks = None if times is None else select(times.ticks)
    user_index, users = _to_dense(table.user_id, select(table.user_id.codes))
    if session_id is not None and not table.is_anonymous:
        code, distinct = _to_dense(session_id, select(session_id.codes))
        index, owner, code = number_sessions(user_index, code, ticks)
        order, offsets = sort_by_user_time(index, ticks, len(owner))
        sessions = Sessions(offsets, owner, users)
        session_ids = name_sessions(sessions, distinct.ids[code])
    else:
        order, offsets = sort_by_user_time(user_index, ticks, len(users))
        if table.is_anonymous:
            sessions = Sessions(offsets, np.arange(len(users), dtype=np.int32), users)
            return order, offsets, users, sessions
        if times is None or options.session_gap is None:
            return order, offsets, users, None
        longest = pd.Timedelta(options.session_gap).value  # nanoseconds, as ticks
        user_index, ticks = gather(user_index, order), select(times.ticks)[order]
        offsets = cut_at_gaps(user_index, ticks, longest)
        starts = format_times(ticks[offsets[:-1]])
        sessions = Sessions(offsets, user_index[offsets[:-1]], users)
        session_ids = name_sessions(sessions, starts)
    if options.histories == "user":
        first = np.searchsorted(sessions.user_index, np.arange(len(users) + 1))
        return order, offsets[first], users, sessions
    return order, offsets, session_ids, sessions


def _to_dense(column: EncodedColumn, codes: _Codes) -> tuple[_Codes, Vocabulary]:
    """Replace codes, in place, by indices into the sorted ids that are used."""
    used = _count(codes, len(column.distinct)) > 0
    by_id, ids = column.sorted_ids(used)
    index_of_code = np.full(len(used), -1, dtype=np.int32)
    index_of_code[by_id] = np.arange(len(ids), dtype=np.int32)
    return gather(index_of_code, codes, out=codes), Vocabulary(ids)


def sort_by_user_time(
    user_index: _Codes, timestamp: _Ints | None, n_users: int
) -> tuple[NDArray[Any], _Ints]:
    """Row positions in order of user, timestamp (if any) and input, [n], and offsets of users."""
    n = len(user_index)
    order = np.empty(n, dtype=np.int32 if n < 2**31 else np.int64)
    offsets = lengths_to_offsets(_count(user_index, n_users))
    _distribute(user_index, offsets[:-1].copy(), order)
    if timestamp is not None:
        # Each thread gets users with an equal number of rows.
        bounds = np.searchsorted(offsets, np.linspace(0, n, available_threads() + 1))
        slices = partial(_sort_slices, order, offsets, timestamp)
        with ThreadPoolExecutor(available_threads()) as pool:
            list(pool.map(slices, bounds[:-1], bounds[1:]))
    return order, offsets


def gather(
    values: NDArray[Any], positions: NDArray[Any], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Compute `values[positions]` in threads; `out` may be `positions` itself."""
    result = np.empty(len(positions), dtype=values.dtype) if out is None else out

    def fill(start: int) -> None:
        part = slice(start, start + _BLOCK)
        # mode="clip" skips the bounds check.
        np.take(values, positions[part].astype(np.intp), out=result[part], mode="clip")

    with ThreadPoolExecutor(available_threads()) as pool:
        list(pool.map(fill, range(0, len(positions), _BLOCK)))
    return result


def _count(codes: _Codes, n: int) -> _Ints:
    """Number of occurrences of each of n codes, [n], without converting all codes at once."""
    counts = np.zeros(n, dtype=np.int64)
    for start in range(0, len(codes), _BLOCK):
        counts += np.bincount(codes[start : start + _BLOCK], minlength=n)
    return counts


@_compile
def _distribute(user_index: _Codes, next_position: _Ints, order: NDArray[Any]) -> None:
    for row in range(len(user_index)):
        user = user_index[row]
        order[next_position[user]] = row
        next_position[user] += 1


@_compile
def _sort_slices(
    order: NDArray[Any], offsets: _Ints, timestamp: _Ints, first: int, last: int
) -> None:
    """Sort the slices of users `first` to `last` (exclusive) by time, stably."""
    for user in range(first, last):
        rows = order[offsets[user] : offsets[user + 1]]
        for i in range(1, len(rows)):  # most histories are in order: nothing is allocated for them
            if timestamp[rows[i]] < timestamp[rows[i - 1]]:
                rows[:] = rows[np.argsort(timestamp[rows], kind="mergesort")]
                break


@_compile
def has_later_duplicate(
    item_index: _Codes, offsets: _Ints, n_items: int, in_sequence: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which rows, [n], have a later row of the same user and item in the sequence.

    Rows are sorted by user and time.
    """
    duplicate = np.zeros(len(item_index), dtype=np.bool_)
    last_user = np.full(n_items, -1, dtype=np.int64)
    for user in range(len(offsets) - 1):
        for row in range(offsets[user + 1] - 1, offsets[user] - 1, -1):
            item = item_index[row]
            duplicate[row] = last_user[item] == user
            if in_sequence[row]:
                last_user[item] = user
    return duplicate


def contains_padding(text: NDArray[np.uint8], separator: int) -> bool:
    """Whether some text may have fields that are not canonical integers; see `PaddingDetector`."""
    return njit is None or bool(_contains_padding(text, separator))


@_compile
def _contains_padding(text: NDArray[np.uint8], separator: int) -> bool:
    found = False
    # Without branches, the loop is vectorised.
    for i in range(len(text) - 2):
        before, char, after = text[i], text[i + 1], text[i + 2]
        starts_field = (before == separator) | (before == 10) | (before == 13) | (before == 34)
        is_digit = (after >= 48) & (after <= 57)
        zero = (char == 48) & (is_digit | (after == 120) | (after == 88))  # 07, 0x7, 0X7
        sign = (char == 43) | ((char == 45) & (after == 48))  # +7, -0
        blank = (char <= 32) & (char != 10) & (char != 13) & (char != separator)
        found |= (starts_field & (zero | sign)) | blank | (char >= 127)
    return found
