"""Tables of text or Parquet as they are written, before anything is checked."""

from __future__ import annotations

import io
import zlib
from typing import IO, Any

import pandas as pd
import pyarrow.dataset
import pyarrow.parquet

from recsys.data.files import Files, Folder, open_unpacked
from recsys.data.layouts import Format
from recsys.errors import DataError

# What a broken file can raise while it is unpacked, decoded and split.
_BROKEN = (OSError, EOFError, ValueError, zlib.error, pyarrow.ArrowException)


def read_text(files: Files, name: str, form: Format) -> pd.DataFrame:
    """Read a table of text; all of it stays text, whatever number or gap it looks like.

    Args:
        files: where it lies.
        name: which file.
        form: how it is written.

    Returns:
        The table; its index is the line of each row, from one. Blank lines are left out.

    Raises:
        DataError: the file is broken, or is not text of this form.
    """
    try:
        with open_unpacked(files, name) as stored:
            table: pd.DataFrame = _parse(stored, form)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{files.describe(name)}: byte {error.object[error.start]:#04x} is not {form.encoding} "
            "text; save the file in that encoding"
        ) from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{files.describe(name)}: the file is empty") from error
    except _BROKEN as error:
        raise DataError(f"{files.describe(name)}: cannot be read: {error}") from error
    table.index = pd.RangeIndex(form.first_line, form.first_line + len(table))
    return table.dropna(how="all")


def _parse(stored: IO[bytes], form: Format) -> Any:
    separator = form.separator
    if separator == "::":
        # pandas reads a separator of two letters ten times more slowly than one of one.
        replaced = stored.read().replace(b"::", _UNIT_SEPARATOR.encode())
        stored, separator = io.BytesIO(replaced), _UNIT_SEPARATOR
    options: dict[str, Any] = {
        "sep": separator,
        "encoding": form.encoding,
        "dtype": str,
        "keep_default_na": False,  # a user may be called NA, a film Null
        "na_values": [""],
        "index_col": False,  # a separator at the end of each line shifts no column
        "skip_blank_lines": False,  # they count as lines
    }
    if form.names is not None:
        # Only tables with a header quote their text.
        options |= {"names": list(form.names), "header": None, "quoting": 3}
    return pd.read_csv(stored, **options)


_UNIT_SEPARATOR = "\x1f"
"""A letter of ASCII that no title holds."""


def read_parquet(files: Files, names: tuple[str, ...]) -> pd.DataFrame:
    """Read one Parquet file, or a folder of part files, which may be partitioned as Hive does.

    Returns:
        The table; its index is the position of each row, from zero.

    Raises:
        DataError: a file is broken.
    """
    try:
        if isinstance(files, Folder):
            paths = [str(files.path / name) for name in names]
            table = pyarrow.dataset.dataset(
                paths, format="parquet", partitioning="hive", partition_base_dir=str(files.path)
            ).to_table()
        else:
            parts = [pyarrow.parquet.read_table(io.BytesIO(files.open(n).read())) for n in names]
            table = pyarrow.concat_tables(parts, promote_options="default")
    except _BROKEN as error:
        where = files.describe(names[0])
        raise DataError(f"{where}: cannot be read as Parquet: {error}") from error
    rows: pd.DataFrame = table.to_pandas()
    return rows
