"""Ratings in Parquet files and in DataFrames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs

from recsys.data.reading.files import BROKEN, Files
from recsys.data.reading.raw import Part, RawRatings, choose_columns
from recsys.errors import DataError


def read_parquet(
    files: Files, names: Sequence[str], columns: Mapping[str, str] | None
) -> RawRatings:
    """Read our columns of one Parquet file, or of many, partitioned as Hive does or not.

    Args:
        files: where they lie.
        names: which files.
        columns: what they call our columns, where that is not told by their names.

    Raises:
        DataError: a file is broken or lacks a column.
    """
    source = files.describe(names[0] if len(names) == 1 else "")
    try:
        dataset = pyarrow.dataset.dataset(
            list(names), format="parquet", filesystem=files.filesystem(), partitioning="hive"
        )
        chosen = choose_columns(dataset.schema.names, columns, source)
        called = {ours: dataset.schema.names[position] for ours, position in chosen.items()}
        wanted = {ours: pyarrow.dataset.field(theirs) for ours, theirs in called.items()}
        table = dataset.to_table(columns=wanted)
        sizes = [fragment.count_rows() for fragment in dataset.get_fragments()]
    except BROKEN as error:
        raise DataError(f"{source}: cannot be read as Parquet: {error}") from error
    parts = [Part(files.describe(name), n) for name, n in zip(names, sizes, strict=True)]
    return RawRatings({ours: table[ours] for ours in chosen}, parts, called, typed=True)


def read_frame(
    frame: pd.DataFrame, columns: Mapping[str, str] | None, source: str = "the table"
) -> RawRatings:
    """Take our columns of a DataFrame, which is not changed.

    Args:
        frame: any index; rows are counted by position.
        columns: what it calls our columns, where that is not told by their names.
        source: what to call it in messages.

    Raises:
        DataError: it lacks a column.
    """
    there = [str(name) for name in frame.columns]
    chosen = choose_columns(there, columns, source)
    arrays = {ours: pa.chunked_array([_to_arrow(frame.iloc[:, at])]) for ours, at in chosen.items()}
    called = {ours: there[at] for ours, at in chosen.items()}
    return RawRatings(arrays, [Part(source, len(frame))], called, typed=True)


def _to_arrow(values: pd.Series[Any]) -> pa.Array:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)  # what has no time zone is UTC
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError):  # objects of several kinds
        array = pa.array(
            [None if gone else str(v) for v, gone in zip(values, values.isna(), strict=True)]
        )
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
