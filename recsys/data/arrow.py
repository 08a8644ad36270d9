"""Readers of typed sources: DataFrames and Parquet files."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs

from recsys.data.files import READ_ERRORS, DetectedLayout
from recsys.data.options import ReadOptions
from recsys.data.tables import RawTable, SourceFile, select_columns
from recsys.errors import DataError


def read_frame(frame: pd.DataFrame, options: ReadOptions = ReadOptions()) -> RawTable:
    """Read the known columns of a DataFrame, which is not modified; see `read_files`."""
    source = "the table"
    available = [str(name) for name in frame.columns]
    selected = select_columns(available, options, source)
    arrays = {name: pa.chunked_array([_to_arrow(frame.iloc[:, i])]) for name, i in selected.items()}
    source_names = {name: available[i] for name, i in selected.items()}
    return RawTable(arrays, [SourceFile(source, len(frame))], source_names, has_types=True)


def _to_arrow(values: pd.Series[Any]) -> pa.Array:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)  # timestamps without a time zone are UTC
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError):  # objects of several types
        is_missing = values.isna()
        array = pa.array(
            [None if gone else str(value) for value, gone in zip(values, is_missing, strict=True)]
        )
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def read_parquet(detected: DetectedLayout, options: ReadOptions) -> RawTable:
    """Read the known columns of Parquet files."""
    files, file_names = detected.files, detected.ratings
    source = files.describe(file_names[0] if len(file_names) == 1 else "")
    try:
        with files.extracted(file_names) as folder:
            local = pyarrow.fs.SubTreeFileSystem(str(folder), pyarrow.fs.LocalFileSystem())
            dataset = pyarrow.dataset.dataset(
                file_names, format="parquet", filesystem=local, partitioning="hive"
            )
            selected = select_columns(dataset.schema.names, options, source)
            source_names = {name: dataset.schema.names[i] for name, i in selected.items()}
            fields = {name: pyarrow.dataset.field(field) for name, field in source_names.items()}
            table = dataset.to_table(columns=fields)
            sizes = [fragment.count_rows() for fragment in dataset.get_fragments()]
    except READ_ERRORS as error:
        raise DataError(f"{source}: cannot be read as Parquet: {error}") from error
    sources = [SourceFile(files.describe(f), n) for f, n in zip(file_names, sizes, strict=True)]
    return RawTable({name: table[name] for name in selected}, sources, source_names, has_types=True)
