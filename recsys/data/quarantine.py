"""The file for the rows that were left out of a source.

A mark in it names the source. Only a file with the mark of the same source is ever replaced or
removed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.detection import DetectedLayout
from recsys.data.files import QUARANTINE_SUFFIX, READ_ERRORS
from recsys.data.tables import COLUMNS, RawTable
from recsys.errors import DataError
from recsys.storage import atomic_file

MARK: Final = b"recsys.quarantine_of"
"""Key in the metadata of a Parquet file whose value is the absolute path of the source."""

_ORDER: Final = ("file", "line", *COLUMNS, "text", "check", "reason")


@dataclass(frozen=True)
class QuarantineFile:
    """Where the rows left out of a source are written."""

    path: Path
    source: str = "a table in memory"
    """The mark."""
    inputs: tuple[Path, ...] = ()
    """The source and every file of it."""

    def check(self) -> None:
        """Raise a `DataError` if there is anything at the path except a file for this source."""
        target = Path(os.path.realpath(self.path))
        if target.is_dir():
            raise self._refused("is a folder")
        if target.exists() and any(target.samefile(file) for file in self.inputs):
            raise self._refused("is a file of the source")
        folders = [Path(os.path.realpath(path)) for path in self.inputs if path.is_dir()]
        is_inside = any(target.is_relative_to(folder) for folder in folders)
        if is_inside and not target.name.endswith(QUARANTINE_SUFFIX):
            raise self._refused(
                f"is in the folder of the source and not named *{QUARANTINE_SUFFIX}"
            )
        if not os.path.lexists(target):
            return
        owner = source_of(target)
        if owner is None:
            raise self._refused("exists and is not a quarantine file", "move it away, or ")
        is_default = str(_absolute(self.path)) == self.source + QUARANTINE_SUFFIX
        has_moved = is_default and not os.path.lexists(owner)  # together with its source
        same = {os.path.realpath(path) for path in (Path(self.source), *self.inputs)}
        if os.path.realpath(owner) not in same and not has_moved:
            raise self._refused(f"is the quarantine file of {owner}", "move it away, or ")

    def _refused(self, reason: str, remedy: str = "") -> DataError:
        return DataError(
            f"{self.path}: {reason}; rows left out of {self.source} cannot be written there: "
            f"{remedy}name another file with quarantine_path"
        )

    def write(self, rows: pa.Table) -> None:
        """Write rows, or remove the file if there are none."""
        self.check()  # again, since reading takes a while
        target = Path(os.path.realpath(self.path))
        try:
            if not len(rows):
                target.unlink(missing_ok=True)
                return
            mark = {MARK: os.fsencode(self.source)}
            with atomic_file(target) as tmp_path:
                pq.write_table(
                    rows.replace_schema_metadata(mark),
                    tmp_path,
                    use_dictionary=[name for name in rows.column_names if name != names.TIMESTAMP],
                    write_statistics=False,  # half of the time
                )
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot write the {len(rows):,} quarantined rows "
                f"({error.strerror}); name another file with quarantine_path"
            ) from error


def rows_left_out(
    source: RawTable, reason_of_row: NDArray[np.int8], reasons: Sequence[tuple[str, str]]
) -> pa.Table:
    """The rows that were left out, in the order of the source.

    Args:
        source: The source.
        reason_of_row: Index into `reasons`, [n_rows]; negative for rows that are used.
        reasons: Check and reason.
    """
    positions = np.flatnonzero(reason_of_row >= 0)
    table = source.rows(positions)
    codes = reason_of_row[positions].astype(np.int32)
    for i, name in enumerate(("check", "reason")):
        values = pa.array([pair[i] for pair in reasons], pa.string())
        table = table.append_column(name, values.dictionary_encode().take(pa.array(codes)))
    malformed = [(i, *line) for i, file in enumerate(source.files) for line in file.malformed]
    if malformed:
        files, lines, text, why = zip(*malformed, strict=True)
        paths = table["file"].chunk(0).dictionary
        columns = {
            "file": pa.DictionaryArray.from_arrays(pa.array(files, pa.int32()), paths),
            "line": pa.array(lines, pa.int64()),
            "text": pa.array(text, pa.string()),
            "check": pa.array(["malformed_row"] * len(text)).dictionary_encode(),
            "reason": pa.array(why, pa.string()).dictionary_encode(),
        }
        table = pa.concat_tables([table, pa.table(columns)], promote_options="default")
        file_of_row = np.concatenate([chunk.indices for chunk in table["file"].chunks])
        table = table.unify_dictionaries().take(np.lexsort((table["line"], file_of_row)))
    return table.select([name for name in _ORDER if name in table.column_names])


def source_of(path: Path) -> str | None:
    """The source in the mark of a quarantine file; None for other files."""
    try:
        metadata = pq.read_metadata(path).metadata if path.is_file() else None
    except READ_ERRORS:
        return None
    mark = (metadata or {}).get(MARK)
    return None if mark is None else os.fsdecode(mark)


def quarantine_file(
    path: Path, detected: DetectedLayout, chosen: str | Path | None
) -> QuarantineFile:
    """The file for the rows left out of the ratings at a path: `chosen`, or next to them."""
    files = detected.files.path
    names = [*detected.ratings, *filter(None, [detected.catalogue])] if files.is_dir() else []
    source = files / detected.ratings[0] if files.is_dir() and len(detected.ratings) == 1 else path
    source = _absolute(source)
    default = source.with_name(source.name + QUARANTINE_SUFFIX)
    inputs = (path, *(files / name for name in names))
    return QuarantineFile(default if chosen is None else Path(chosen), str(source), inputs)


def _absolute(path: Path) -> Path:
    """An absolute path that keeps the last name, also of a link."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
