"""Choosing the files that are one log, and their layout."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from recsys.arguments import to_path
from recsys.data.files import FileStore, base_name, is_hidden, natural_order, number_months
from recsys.data.headers import why_no_log
from recsys.data.layouts import LAYOUT_OF_SUFFIX, LAYOUTS
from recsys.data.options import ReadOptions
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


_N_REASONS: Final = 4
"""Of so many files the message says why they have no ratings."""
_N_SHOWN: Final = 8
_N_LEFT_OUT: Final = 3
"""So many files that are no logs are in the pattern of a message."""


class DetectedLayout(NamedTuple):
    """The files of a data set and their layout."""

    files: FileStore
    name: str
    """A key of `LAYOUTS`."""
    ratings: list[str]
    """The file, or the part files in natural order, with the ratings."""
    catalogue: str | None
    """The file with the catalogue, if there is one."""
    unread: list[str]
    """Other tables of the folder or archive, without those that are left alone by their names."""


def detect_layout(path: Path, options: ReadOptions = ReadOptions()) -> DetectedLayout:
    """Detect the layout of a folder, a zip archive or a single file.

    Several files are one log if their names differ only in dates, numbers and Hive partitions, or
    if `options.files` chooses them.

    Raises:
        DataError: No ratings are recognised, it is not clear which files they are, or the layout
            in `options` is unknown.
        ConfigError: `options.files` is given for a single file.
    """
    path = to_path(path, DataError)
    if path.exists() and not (path.is_dir() or path.is_file()):
        raise DataError(f"{path}: is a pipe or a device; save what it gives as a file, and name it")
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
        ratings = _choose(files, names, options)
    for name in ratings:
        to_path(files.path / name, DataError)  # raises an error if it is not UTF-8
    _refuse_table_format(files.path, names, ratings)
    layouts = {options.layout or layout_of(files.describe(name)) for name in ratings}
    if layouts == {"movielens", "csv"}:
        layouts = {"csv"}
    if len(layouts) > 1:
        raise _ambiguous(files, ratings, names)
    layout = layouts.pop()
    catalogue = _find_catalogue(files, layout, names, ratings)
    unread = [
        name
        for name in names
        if _suffix(name) in LAYOUT_OF_SUFFIX
        and not (is_hidden(name) or name in {*ratings, catalogue} or _NO_LOG.match(base_name(name)))
    ]
    return DetectedLayout(files, layout, ratings, catalogue, unread if files.path == path else [])


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
            f"{files.path}: {listed(found)} are several catalogues of one log; write one for all "
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
    given = (options.files,) if isinstance(options.files, str) else options.files or ()
    matches = {pattern: _matching(files, names, pattern.removeprefix("!")) for pattern in given}
    wanted = [pattern for pattern in given if not pattern.startswith("!")]
    left_out = {name for pattern in {*given} - {*wanted} for name in matches[pattern]}
    visible = [name for name in names if not is_hidden(name)]
    chosen = {name for pattern in wanted for name in matches[pattern]} if wanted else {*visible}
    found = [name for name in names if name in chosen - left_out]
    for name in found if files.path.is_dir() else ():
        if not (files.path / name).is_file():
            raise DataError(
                f"{files.path / name}: is a link that leads nowhere, a pipe or a device; move it "
                "away, or choose other files with files="
            )
    for pattern in given:
        if not matches[pattern]:
            raise DataError(
                f"{files.path}: no file that matches files = {pattern!r} among {listed(visible)}; "
                "a pattern leaves out item tables and hidden files: name such a file itself"
            )
    return found if wanted and found else _find_log(files, found, options)


def _matching(files: FileStore, names: Sequence[str], pattern: str) -> list[str]:
    """The file that is named, or the files that match a pattern.

    `*` in the name of a file stands for no other table, no document and no hidden file.
    """
    pattern = pattern.removeprefix("./")
    if pattern in names and (not is_hidden(pattern) or (files.path / pattern).is_file()):
        return [pattern]
    parts = pattern.split("/")
    found = [n for n in names if not is_hidden(n) and _matches(n.split("/"), parts)]
    is_named = not re.search(r"[*?[]", parts[-1])
    return [name for name in found if is_named or not _NO_LOG.match(base_name(name))]


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
    problems = {}
    if not _are_parts(tables):
        forms = {name: LAYOUTS[options.layout or layout_of(name)].ratings for name in tables}
        problems = {name: why_no_log(files, name, forms[name], options) for name in tables}
    logs = [name for name in tables if not problems.get(name)]
    if not logs:
        raise _no_log(files, names, problems)
    # Files that are not read, but may be parts; archives may have been extracted here.
    shapes = {_stem_shape(name) for name in logs}
    extracted = {f"{part}.zip" for part in "/".join([files.path.name, *logs]).split("/")}
    unread = [n for n in names if _UNREADABLE.fullmatch(_suffix(n)) and n not in logs]
    unread = [n for n in unread if n.endswith(".zip") or _stem_shape(n) in shapes]
    unread = [n for n in unread if PurePosixPath(n).name not in extracted]
    if unread or not _are_parts(logs):
        raise _ambiguous(files, logs, names, unread)
    return logs


def _no_log(files: FileStore, names: Sequence[str], problems: Mapping[str, str]) -> DataError:
    reasons = [f"{name}: {problem}" for name, problem in [*problems.items()][:_N_REASONS]]
    more = len(problems) - len(reasons)
    reasons += [f"and {more:,} more"] if more else []
    why = f": {'; '.join(reasons)}" if reasons else f" among {listed(names)}"
    return DataError(
        f"{files.path}: no file of ratings in it{why}; choose the files with files=, name the "
        "columns of users and items with columns= and their encoding with encoding=, or choose "
        f"layout= from {', '.join(LAYOUTS)}, or save the ratings as CSV or Parquet"
    )


def _ambiguous(
    files: FileStore, logs: Sequence[str], names: Sequence[str], unread: Sequence[str] = ()
) -> DataError:
    suffix = PurePosixPath(logs[0]).suffix
    choice = "or a list of several"
    for pattern in (f"*{suffix}", f"**/*{suffix}"):
        found = _matching(files, names, pattern)
        others = [f"!{name}" for name in found if name not in logs]
        if {*logs} <= {*found} and len(others) <= _N_LEFT_OUT:
            choice = f"or for all of them {[pattern, *others] if others else pattern!r}"
            break
    choice = "and save others as CSV or Parquet" if unread else choice
    return DataError(
        f"{files.path}: {listed([*unread, *logs])} may be several logs, or one in formats of "
        f"which some are not read; choose with files = {logs[0]!r}, {choice}, with layout=, or "
        "name one file"
    )


def listed(names: Sequence[str]) -> str:
    """Some names for a message, not all of many."""
    more = f" and {len(names) - _N_SHOWN:,} more" if len(names) > _N_SHOWN else ""
    return (", ".join(names[:_N_SHOWN]) or "no files") + more


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
