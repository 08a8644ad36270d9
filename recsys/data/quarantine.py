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
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.data.detection import DetectedLayout
from recsys.data.files import QUARANTINE_SUFFIX, READ_ERRORS
from recsys.data.tables import COLUMNS, RawTable
from recsys.errors import DataError
from recsys.storage import atomic_file

MARK: Final = b"recsys.quarantine_of"
"""Key in the metadata of a Parquet file whose value is the absolute path of the source."""

_CODED: Final = pa.dictionary(pa.int32(), pa.string())
_MALFORMED: Final = pa.schema(
    {"file": _CODED, "line": pa.int64(), "text": pa.string(), "check": _CODED, "reason": _CODED}
)
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
        own = {Path(os.path.realpath(path)) for path in (Path(self.source), *self.inputs)}
        if own & {target, *target.parents} and not target.name.endswith(QUARANTINE_SUFFIX):
            raise self._refused(
                f"is the source, or in its folder and not named *{QUARANTINE_SUFFIX}"
            )
        if not os.path.lexists(target):
            return
        owner = source_of(target)
        if owner is None:
            raise self._refused("exists and is not a quarantine file, or is damaged")
        is_default = str(_absolute(self.path)) == self.source + QUARANTINE_SUFFIX
        # Copied or moved together with its source.
        has_moved = Path(owner).name == Path(self.source).name or not os.path.lexists(owner)
        if Path(os.path.realpath(owner)) not in own and not (is_default and has_moved):
            raise self._refused(f"is the quarantine file of {owner}")

    def _refused(self, reason: str) -> DataError:
        return DataError(
            f"{self.path}: {reason}; rows left out of {self.source} cannot be written there: name "
            "another file with quarantine_path"
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
            integers = [field.name for field in rows.schema if pa.types.is_integer(field.type)]
            with atomic_file(target) as tmp_path:
                pq.write_table(
                    rows.replace_schema_metadata(mark),
                    tmp_path,
                    use_dictionary=[*{*rows.column_names} - {*integers}],
                    column_encoding=dict.fromkeys(integers, "DELTA_BINARY_PACKED"),  # is fast
                    write_statistics=False,
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
    malformed = [
        {"file": file.name, "line": line, "text": text, "check": "malformed_row", "reason": reason}
        for file in source.files
        for line, text, reason in file.malformed
    ]
    if malformed:
        table = pa.concat_tables(
            [table, pa.Table.from_pylist(malformed, _MALFORMED)], promote_options="default"
        ).unify_dictionaries()
        files = [file.name for file in source.files]
        file_of_row = pc.index_in(table["file"].cast(pa.string()), pa.array(files))
        table = table.take(np.lexsort((table["line"], file_of_row)))
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
    parts = [files / name for name in detected.ratings] if files.is_dir() else []
    source = _absolute(parts[0] if len(parts) == 1 else path)
    default = source.with_name(source.name + QUARANTINE_SUFFIX)
    return QuarantineFile(Path(chosen or default), str(source), (path, *parts))


def _absolute(path: Path) -> Path:
    """An absolute path that keeps the last name, also of a link."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
