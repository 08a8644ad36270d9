"""Choosing the files that are one log, and their layout."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import pyarrow.parquet as pq

from recsys import columns
from recsys.data.dialect import is_number
from recsys.data.files import (
    READ_ERRORS,
    FileStore,
    Listing,
    base_name,
    natural_order,
    number_months,
)
from recsys.data.layouts import LAYOUT_OF_SUFFIX, LAYOUTS
from recsys.data.options import ReadOptions
from recsys.data.tables import COLUMNS
from recsys.errors import ConfigError, DataError

_OTHER_TABLES: Final = ("genome-scores", "genome-tags", "items", "links", "movies", "tags", "users")
_DOCUMENTS: Final = ("readme", "license", "licence", "copying", "changelog", "requirements")
_UNREADABLE: Final = (
    "", ".7z", ".arrow", ".avro", ".db", ".feather", ".h5", ".lz4", ".npz", ".ods", ".orc", ".pkl",
    ".rar", ".snappy", ".sqlite", ".tar", ".tgz", ".xls", ".xlsx", ".zip", ".z",
)  # fmt: skip
"""Suffixes of files that may hold parts of a log, but are not read."""

_TABLE_FORMATS: Final = {
    "_delta_log": ("Delta Lake", "deltalake.DeltaTable({root!r}).to_pyarrow_table()"),
    "metadata/*.metadata.json*": (
        "Iceberg",
        "pyiceberg.table.StaticTable.from_metadata({found!r}).scan().to_arrow()",
    ),
    ".hoodie": ("Hudi", "spark.read.format('hudi').load({root!r}).toArrow()"),
}
"""Formats of tables whose metadata say which files are live: what identifies a table, the
name of the format, and an expression that reads it."""

_BROKEN_LINK: Final = "a link that leads nowhere"
_HASH: Final = re.compile(
    "(?<![0-9a-z])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8,})(?![0-9a-z])"
)
# Numbers, dates and times, but not sizes such as 100k.
_NUMBER: Final = re.compile(
    "(?<![0-9])[0-9]+(?:(?:[-_.: ][tqwh]?|[tqwh]|[-_ ]?of[-_ ]?)[0-9]+)*z?(?![0-9a-z])"
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
        kind = f"is {_BROKEN_LINK}" if path.is_symlink() else "no such file"
        raise DataError(f"{path}: {kind}; name a folder of ratings, a zip archive or a file")
    if options.layout is not None and options.layout not in LAYOUTS:
        raise DataError(f"no layout {options.layout!r}; the layouts are {', '.join(LAYOUTS)}")
    real = path.resolve()
    for folder in real.parents if path.is_file() else (real, *real.parents):
        markers = [found for pattern in _TABLE_FORMATS for found in folder.glob(pattern)]
        _refuse_table_format(folder, [found.relative_to(folder).as_posix() for found in markers])
    if path.is_file() and path.suffix.lower() != ".zip":
        if options.files is not None:
            raise ConfigError(
                f"files = {options.files!r} chooses in a folder, but {path} is a file"
            )
        files, ratings = FileStore(path.parent), [path.name]
        layout = options.layout or layout_of(path.name)
        names = [file.name for file in path.parent.glob("[!._]*") if file.is_file()]
    else:
        files = FileStore(path)
        listing = files.listing()
        layout, ratings = _find_ratings(files, listing, options)
        names = listing.files
    if layout == "parquet" and base_name(ratings[0]) != PurePosixPath(ratings[0]).name.lower():
        raise DataError(f"{files.describe(ratings[0])}: is compressed as a whole; decompress it")
    folders = {PurePosixPath(name).parent for name in ratings} | {PurePosixPath()}
    wanted = LAYOUTS[layout].catalogue_file
    nearby = [n for n in names if base_name(n) == wanted and PurePosixPath(n).parent in folders]
    # Of several, one for all parts, or else that of the latest part.
    catalogue = min(reversed(nearby), key=lambda name: name.count("/"), default=None)
    return DetectedLayout(files, layout, ratings, None if catalogue in ratings else catalogue)


def _refuse_table_format(root: Path, names: Sequence[str], chosen: Sequence[str] = ("",)) -> None:
    """Raise a `DataError` if a chosen file belongs to a table with metadata of its own."""
    for name in sorted(names, key=natural_order, reverse=True):  # the latest metadata first
        for pattern, (kind, expression) in _TABLE_FORMATS.items():
            inside = "/".join(PurePosixPath(name).parts[: -1 - pattern.count("/")])
            start = f"{inside}/" if inside else ""
            if PurePosixPath(name).match(pattern) and any(n.startswith(start) for n in chosen):
                table = expression.format(root=str(root / inside), found=str(root / name))
                raise DataError(
                    f"{root / inside}: is a table of {kind}, whose metadata say which files are "
                    f"live; read it in Python by read_ratings({table}), or export it by "
                    f"pyarrow.parquet.write_table({table}, 'ratings.parquet')"
                )


def _find_ratings(
    files: FileStore, listing: Listing, options: ReadOptions
) -> tuple[str, list[str]]:
    """The layout, and the files of a folder or archive that are the log."""
    broken = [n for n in listing.files if files.path.is_dir() and not (files.path / n).is_file()]
    if options.files is None:
        if broken:
            kind = "a pipe or a device" if (files.path / broken[0]).exists() else _BROKEN_LINK
            raise DataError(f"{files.path / broken[0]}: is {kind}; move it away")
        chosen = _choose(files, listing.files, options)
        _refuse_unread(files, listing.files, chosen)
    else:
        pattern = _glob(options.files)
        chosen = [name for name in listing.files if pattern.fullmatch(name)]
        if not chosen:
            raise DataError(
                f"{files.path}: no file matches files = {options.files!r} among "
                f"{_listed(listing.files)}"
            )
    _refuse_table_format(files.path, [*listing.files, *listing.hidden], chosen)
    kinds = {options.layout or layout_of(files.describe(name)) for name in chosen}
    if len({LAYOUTS[kind].ratings for kind in kinds}) > 1:
        raise _ambiguous(files, chosen)
    return max(kinds, key=lambda kind: LAYOUTS[kind].ratings_file is None), chosen


def _choose(files: FileStore, names: list[str], options: ReadOptions) -> list[str]:
    """The tables that are one log: by their names or, if these differ, by their columns too."""
    others = [name for name in names if not _is_no_table(name)]
    tables = [name for name in others if PurePosixPath(base_name(name)).suffix in LAYOUT_OF_SUFFIX]
    if options.layout is not None:
        tables = [n for n in tables if layout_of(n) == options.layout] or tables or others
    tables = _without_links(files, tables)
    if not tables:
        raise DataError(
            f"{files.path}: no file of ratings in it ({_listed(names)}); name one file, or "
            f"choose layout= from {', '.join(LAYOUTS)}, or save the ratings as CSV or Parquet"
        )
    if _are_parts(tables):
        return tables
    logs = [name for name in tables if _may_be_log(files, name, options)]
    if not logs:
        raise DataError(
            f"{files.path}: none of {_listed(tables)} has columns of users and items; name the "
            "columns with columns=, or one file"
        )
    if not _are_parts(logs):
        raise _ambiguous(files, logs)
    return logs


def _ambiguous(files: FileStore, names: Sequence[str]) -> DataError:
    return DataError(
        f"{files.path}: {_listed(names)} may be several logs, or several kinds of files; choose "
        f"with files = {names[0]!r} or the like, with layout=, or name one file"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "no files") + more


def _refuse_unread(files: FileStore, names: Sequence[str], chosen: Sequence[str]) -> None:
    """Raise a `DataError` if a file that is not read may be a part of the log."""
    shapes = {_stem_shape(name) for name in chosen}
    folders = {part for name in chosen for part in PurePosixPath(name).parts} | {files.path.name}
    for name in sorted(set(names) - set(chosen)):
        path = PurePosixPath(name)
        suffix = PurePosixPath(base_name(name)).suffix
        is_original = suffix == ".zip" and path.stem in folders  # it was extracted here
        may_be_part = _stem_shape(name) in shapes or suffix == ".zip"
        if may_be_part and not is_original and (suffix in _UNREADABLE or suffix[1:].isdigit()):
            raise DataError(
                f"{files.describe(name)}: is not read, but may be a part of the log; extract it or "
                "save it as CSV or Parquet, move it away, or choose the parts with files="
            )


def layout_of(name: str) -> str:
    """The layout of a file, by its name."""
    for layout, known in LAYOUTS.items():
        if base_name(name) == known.ratings_file:
            return layout
    suffix = PurePosixPath(base_name(name)).suffix
    layouts = LAYOUT_OF_SUFFIX | {"": "csv"}  # in a folder, rarely ratings
    if suffix not in layouts:
        raise DataError(
            f"{name}: unknown file type {suffix or '(no suffix)'}; choose layout= from "
            f"{', '.join(LAYOUTS)}, or save it as CSV or Parquet"
        )
    return layouts[suffix]


def _is_no_table(name: str) -> bool:
    """Whether a name is known as that of another table, or of a document."""
    base = base_name(name)
    catalogues = {layout.catalogue_file for layout in LAYOUTS.values()}
    is_other = base in catalogues or base.split(".")[0] in _OTHER_TABLES
    return is_other or base.startswith(_DOCUMENTS)


def _without_links(files: FileStore, names: list[str]) -> list[str]:
    """Leave out links to others of the files, which would be read twice."""
    if not files.path.is_dir():
        return names
    real = {name: (files.path / name).resolve() for name in names}
    targets = {real[name] for name in names if not (files.path / name).is_symlink()}
    return [n for n in names if not (files.path / n).is_symlink() or real[n] not in targets]


def _are_parts(names: Sequence[str]) -> bool:
    """Whether the names of files differ only in dates, numbers, hashes and Hive partitions."""
    plain = {f"{PurePosixPath(name).parent}/{base_name(name)}" for name in names}
    shapes = set(map(_shape, plain))
    if len(plain) < len(names):
        return False  # one is compressed to another
    return len(names) == 1 or (len(shapes) == 1 and not _VARIANT.search(shapes.pop()))


def _shape(name: str) -> str:
    """A path with `#` for dates, numbers, hashes and values of Hive partitions."""
    text = re.sub("=[^/]*", "=#", number_months(name))
    return _NUMBER.sub("#", _HASH.sub("#", text))


def _stem_shape(name: str) -> str:
    path = PurePosixPath(name)
    return _shape(str(path.parent / path.name.split(".")[0]))


def _may_be_log(files: FileStore, name: str, options: ReadOptions) -> bool:
    """Whether a table has columns of users and items, or no header to tell."""
    form = LAYOUTS[options.layout or layout_of(name)].ratings
    try:
        with files.open(name) as content:
            if PurePosixPath(base_name(name)).suffix == ".parquet":
                header = pq.read_schema(content).names
            else:
                start = next(filter(bytes.strip, content), b"")[: 1 << 16]
                encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
                line = start.decode(encoding, "replace").strip().removeprefix("ï»¿")
                header = _names_in(line, options.separator)
    except READ_ERRORS:
        return True  # reading it will say more
    if form.separator != " " and (form.names or not isinstance(options.columns, dict)):
        return True
    mapped = dict(options.columns) if isinstance(options.columns, dict) else {}
    found = {*columns.match(header, COLUMNS), *(ours for ours, n in mapped.items() if n in header)}
    if {columns.USER_ID, columns.ITEM_ID} <= found:
        return True
    if form.separator != " ":
        return any(map(is_number, header))  # there is no header
    words = line.split()
    return len(words) == 2 or (len(words) > 2 and all(map(str.isdecimal, words)))


def _names_in(line: str, separator: str | None) -> list[str]:
    """The column names in the first line of a text file."""
    if line.startswith("{"):
        return list(json.loads(line)) if line.endswith("}") else []  # else one large object
    fields = line.split(separator) if separator else re.split(r"::|[,;\t|]", line)
    return [field.strip().strip('"') for field in fields]


def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern of paths where `*` matches within a folder and `**` any folders."""
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern.removeprefix("./"))
    return re.compile(
        "".join(
            known.get(token) or (token.replace("[!", "[^", 1) if i % 2 else re.escape(token))
            for i, token in enumerate(tokens)
        )
    )
