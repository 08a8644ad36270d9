"""Choosing the files that are one log, and their layout."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Final, NamedTuple

import pyarrow.parquet as pq

from recsys import columns
from recsys.data.dialect import is_number
from recsys.data.files import (
    READ_ERRORS,
    FileStore,
    base_name,
    is_hidden,
    natural_order,
    number_months,
)
from recsys.data.layouts import LAYOUT_OF_SUFFIX, LAYOUTS
from recsys.data.options import ReadOptions
from recsys.data.tables import COLUMNS
from recsys.errors import ConfigError, DataError

_NO_LOG: Final = re.compile(
    r"(?:genome-scores|genome-tags|items|links|movies|tags|users)(?:\.|$)|u\.item$"
    "|readme|licen[cs]e|copying|changelog|requirements"
)
"""Names of other tables and of documents."""

_UNREADABLE: Final = re.compile(
    r"(?:\.(?:7z|arrow|avro|db|feather|h5|lz4|npz|ods|orc|pkl|rar|snappy|sqlite|tar|tgz|xlsx?|z"
    r"|zip|[0-9]+))?"
)
"""Suffixes of files that may hold parts of a log, but are not read."""

_TABLE_FORMATS: Final = {
    "_delta_log": "Delta Lake by deltalake.DeltaTable({0!r}).to_pyarrow_table()",
    "metadata/*.metadata.json*": (
        "Iceberg by pyiceberg.table.StaticTable.from_metadata({1!r}).scan().to_arrow()"
    ),
    ".hoodie": "Hudi by spark.read.format('hudi').load({0!r}).toArrow()",
}
"""What identifies a table whose metadata say which files are live, and what reads its folder, or
its latest metadata."""

# Values of Hive partitions, UUIDs, numbers, dates and times (but not sizes such as 100k), hashes.
_VARYING: Final = re.compile(
    "(?<==)[^/]*|(?:(?<![0-9a-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    "|[0-9]+(?:[-_.: tqwh]+[0-9]+)*z?|(?<![0-9a-z])[0-9a-f]{8,})(?![0-9a-z])"
)
# Numbers that tell alternatives apart, not parts.
_VARIANT: Final = re.compile(
    r"(?<![a-z])(?:v|ver|version|rev|fold|cv|split|set|subset|seed|run|copy|sample|dataset)"
    r"[-_ .=]*#|\(#\)"
)


class DetectedLayout(NamedTuple):
    """The files of a data set and their layout."""

    files: FileStore
    name: str
    """A key of `LAYOUTS`."""
    ratings: list[str]
    """The file, or the part files in natural order, with the ratings."""
    catalogue: str | None
    """The file with the catalogue, if there is one."""


def detect_layout(path: Path, options: ReadOptions = ReadOptions()) -> DetectedLayout:
    """Detect the layout of a folder, a zip archive or a single file.

    Several files are one log if their names differ only in dates, numbers and Hive partitions, or
    if `options.files` chooses them.

    Raises:
        DataError: No ratings are recognised, it is not clear which files they are, or the layout
            in `options` is unknown.
        ConfigError: `options.files` is given for a single file.
    """
    if not (path.is_dir() or path.is_file()):
        raise DataError(
            f"{path}: no such file, or a link that leads nowhere; name a file or folder"
        )
    if options.layout not in (None, *LAYOUTS):
        raise DataError(f"no layout {options.layout!r}; the layouts are {', '.join(LAYOUTS)}")
    if path.is_file() and path.suffix.lower() != ".zip":
        if options.files is not None:
            raise ConfigError(
                f"files = {options.files!r} chooses in a folder, but {path} is a file"
            )
        files, ratings = FileStore(path.parent), [path.name]
        names = [file.name for file in path.parent.glob("*")]
    else:
        files = FileStore(path)
        names = files.listing()
        ratings = _choose(files, [name for name in names if not is_hidden(name)], options)
    _refuse_table_format(files.path, names, ratings)
    layouts = {options.layout or layout_of(files.describe(name)) for name in ratings}
    if layouts == {"movielens", "csv"}:
        layouts = {"csv"}
    if len(layouts) > 1:
        raise _ambiguous(files, ratings)
    layout = layouts.pop()
    return DetectedLayout(files, layout, ratings, _find_catalogue(files, layout, names, ratings))


def _find_catalogue(
    files: FileStore, layout: str, names: Sequence[str], ratings: Sequence[str]
) -> str | None:
    """The catalogue of all parts, or that of their folder if they are in a single one."""
    wanted = LAYOUTS[layout].catalogue_files
    folders = {PurePosixPath(name).parent for name in ratings}
    found = [name for name in names if base_name(name) in wanted and name not in ratings]
    top = [name for name in found if "/" not in name]
    found = top or [name for name in found if PurePosixPath(name).parent in folders]
    if len(found) > 1:
        raise DataError(
            f"{files.path}: {_listed(found)} are several catalogues of one log; write one for all "
            f"parts to {files.path / wanted[0]}, or choose the parts of one with files="
        )
    return found[0] if found else None


def layout_of(name: str) -> str:
    """The layout of a file, by its name."""
    known = {layout.ratings_file: key for key, layout in LAYOUTS.items()}
    of_suffix = LAYOUT_OF_SUFFIX | {"": "csv"}  # in a folder, rarely ratings
    layout = known.get(base_name(name)) or of_suffix.get(_suffix(name))
    if layout is None:
        raise DataError(
            f"{name}: unknown file type {_suffix(name)}; choose layout= from "
            f"{', '.join(LAYOUTS)}, or save it as CSV or Parquet"
        )
    return layout


def _suffix(name: str) -> str:
    return PurePosixPath(base_name(name)).suffix


def _refuse_table_format(root: Path, names: Sequence[str], chosen: Sequence[str]) -> None:
    """Raise a `DataError` if a chosen file belongs to a table with metadata of its own."""
    root = Path(os.path.realpath(root))
    folders = {folder for name in chosen for folder in Path(os.path.realpath(root / name)).parents}
    for pattern, reader in _TABLE_FORMATS.items():
        found = [root / name for name in names if PurePosixPath(name).match(pattern)]
        found += [marker for folder in folders for marker in folder.glob(pattern)]
        for marker in sorted(found, key=lambda found: natural_order(str(found)), reverse=True):
            folder = marker.parents[pattern.count("/")]
            if folder in folders:
                kind, table = reader.format(str(folder), str(marker)).split(" by ")
                raise DataError(
                    f"{folder}: is a table of {kind}, whose metadata say which files are live; "
                    f"read it in Python by read_ratings({table}), or export it by "
                    f"pyarrow.parquet.write_table({table}, 'ratings.parquet')"
                )


def _choose(files: FileStore, names: list[str], options: ReadOptions) -> list[str]:
    """The files that `options.files` chooses, or else those that are one log."""
    found, wanted = names, "of ratings in it"
    if options.files is not None:
        wanted = f"that matches files = {options.files!r}"
        patterns = options.files.removeprefix("./").split("/")
        found = [name for name in names if _matches(name.split("/"), patterns)]
    for name in found if files.path.is_dir() else ():
        if not (files.path / name).is_file():
            raise DataError(
                f"{files.path / name}: is a link that leads nowhere, a pipe or a device; move it "
                "away, or choose other files with files="
            )
    if options.files is None:
        found = _find_log(files, names, options)
    if not found:
        raise DataError(
            f"{files.path}: no file {wanted} among {_listed(names)}; name one file, or the columns "
            f"of users and items with columns=, or choose layout= from {', '.join(LAYOUTS)}, or "
            "save the ratings as CSV or Parquet"
        )
    return found


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether the components of a path match patterns, of which `**` matches any number."""
    if not patterns or not parts:
        return not parts and all(pattern == "**" for pattern in patterns)
    if patterns[0] == "**":
        return _matches(parts, patterns[1:]) or _matches(parts[1:], patterns)
    return fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def _find_log(files: FileStore, names: Sequence[str], options: ReadOptions) -> list[str]:
    """The tables that are one log: by their names or, if these differ, by their columns too."""
    others = [name for name in names if not _NO_LOG.match(base_name(name))]
    tables = [name for name in others if _suffix(name) in LAYOUT_OF_SUFFIX]
    if options.layout is not None:
        tables = [n for n in tables if layout_of(n) == options.layout] or tables or others
    # Of a file and links to it, take the file.
    real = {name: os.path.realpath(files.path / name) for name in tables}
    targets = {real[n]: n for n in sorted(tables, key=lambda n: not (files.path / n).is_symlink())}
    tables = [name for name in tables if targets[real[name]] == name]
    logs = tables
    if not _are_parts(tables):
        logs = [name for name in tables if _may_be_log(files, name, options)]
    # Files that are not read, but may be parts; archives may have been extracted here.
    shapes = {_stem_shape(name) for name in logs}
    extracted = {f"{part}.zip" for part in "/".join([files.path.name, *logs]).split("/")}
    unread = [n for n in names if _UNREADABLE.fullmatch(_suffix(n)) and n not in logs]
    unread = [n for n in unread if n.endswith(".zip") or _stem_shape(n) in shapes]
    unread = [n for n in unread if PurePosixPath(n).name not in extracted]
    if logs and (unread or not _are_parts(logs)):
        raise _ambiguous(files, logs, unread)
    return logs


def _ambiguous(files: FileStore, names: Sequence[str], unread: Sequence[str] = ()) -> DataError:
    pattern = f"or a pattern of several, as '*{PurePosixPath(names[0]).suffix}'"
    choice = "and save others as CSV or Parquet" if unread else pattern
    return DataError(
        f"{files.path}: {_listed([*unread, *names])} may be several logs, or one in formats of "
        f"which some are not read; choose with files = {names[0]!r}, {choice}, with layout=, or "
        "name one file"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "no files") + more


def _are_parts(names: Sequence[str]) -> bool:
    """Whether the names of files differ only in dates, numbers, hashes and Hive partitions."""
    plain = {f"{PurePosixPath(name).parent}/{base_name(name)}" for name in names}
    if len(plain) < len(names):
        return False  # one is compressed to another
    shapes = {_VARYING.sub("#", number_months(name)) for name in plain}
    return len(names) == 1 or (len(shapes) == 1 and not _VARIANT.search(shapes.pop()))


def _stem_shape(name: str) -> str:
    """A path without suffixes, and with `#` for what varies between parts."""
    return _VARYING.sub("#", number_months(re.sub(r"\.[^/]*$", "", name)))


def _may_be_log(files: FileStore, name: str, options: ReadOptions) -> bool:
    """Whether a table has columns of users and items, or no header to tell."""
    form = LAYOUTS[options.layout or layout_of(name)].ratings
    try:
        with files.open(name) as content:
            if _suffix(name) == ".parquet":
                line, header = "", pq.read_schema(content).names
            else:
                line, header = _first_line(content, options.separator)
    except READ_ERRORS:
        return True  # reading it will say more
    mapped = options.columns if isinstance(options.columns, dict) else {}
    found = {*columns.match(header, COLUMNS), *(ours for ours, n in mapped.items() if n in header)}
    if columns.ITEM_ID in found and {columns.USER_ID, columns.SESSION_ID} & found:
        return True
    if form.separator == " ":  # pairs of `user item`, or else lists of items
        words = line.split()
        return len(words) == 2 or all(map(str.isdecimal, words))
    has_header = not form.names and isinstance(options.columns, dict)
    return not has_header or any(map(is_number, header))


def _first_line(content: IO[bytes], separator: str | None) -> tuple[str, list[str]]:
    """The first line of a text file, and the column names in it."""
    start = next(filter(bytes.strip, content), b"")[: 1 << 16]
    # UTF-16 differs by its mark and by zeros, as far as names are ASCII.
    line = start.decode("utf-8", "replace").replace("\0", "").strip("\ufeff\ufffd \r\n")
    if line.startswith("{"):
        return line, re.findall(r'"([^"]*)"\s*:', line)
    fields = re.split(re.escape(separator) if separator else r"::|[,;\t|]", line)
    return line, [field.strip().strip('"') for field in fields]
