"""The page of `recsys data check`, which shows how a log is understood."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from recsys.config import spell_settings
from recsys.console import output_console
from recsys.data import Checks, DataConfig, Finding, ReadReport
from recsys.data.options import ReadOptions
from recsys.data.profile import LogProfile, RatingProfile, TimeProfile
from recsys.data.report import REMEDY

_Cell = str | Text

_BAR_WIDTH = 32

_OUTCOMES = {"quarantine": ("left out", "yellow"), "keep": ("used", "cyan")}


def option_names() -> dict[str, str]:
    """The options of `check` by setting of reading."""
    names = *ReadOptions.model_fields, "scale", "quarantine_path"
    options = {name: f"--{name.replace('_', '-').removesuffix('s')}" for name in names}
    policies = {name: f"--policy {name}=" for name in Checks.model_fields}
    plural = {"files": "--files", "columns[]": "--columns", "repeats": "--repeats"}
    return {**policies, **options, **plural}


def train_command(source: Path, options: DataConfig) -> str:
    """The command that trains on a source as it was read with some options."""
    given = options.model_dump(mode="json", exclude_defaults=True)
    checks = {f"checks.{name}": value for name, value in given.pop("checks", {}).items()}
    parts = ["recsys", "train", "--source", str(source)]
    for name, value in (given | checks).items():
        text = value if isinstance(value, str) else json.dumps(value)
        parts += [f"--data.{name.replace('_', '-')}", text]
    return shlex.join(parts)


def print_page(report: ReadReport, command: str) -> None:
    """Print what a source was understood to be, what failed the checks, and the next command."""
    console, profile = output_console(), report.profile
    if profile is None:  # the source was read in partitions, which this command does not do
        return
    examples = _grid(_example_rows(profile, report), wrapped=2)
    findings = [line for finding in report.findings for line in _describe_finding(finding, report)]
    sections: dict[str, Iterable[Text | Table]] = {
        "Files": _describe_files(profile, report),
        "Columns": _describe_columns(profile),
        "Ratings": _describe_ratings(profile.ratings),
        "Times": _describe_times(profile.times),
        "The first rows, as they were understood": [examples],
        "Checks": findings or [Text("no row failed a check", "green")],
        "Result": _verdict(report, command),
    }
    for title, parts in sections.items():
        console.print(Text(title if title == "Files" else f"\n{title}", "bold"))
        for part in parts:
            if isinstance(part, Text):  # a long path is not broken, so that it can be copied
                console.print(Text("  ") + part, soft_wrap=True)
            else:
                console.print(Padding(part, (0, 0, 0, 2), expand=False))


def _grid(rows: Iterable[Sequence[_Cell]], right: Collection[int] = (), wrapped: int = -1) -> Table:
    """Arrange rows in columns; those in `right` are aligned to the right, one may be wrapped."""
    table = Table.grid(padding=(0, 3, 0, 0))
    cells = [[_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    for column in range(max(map(len, cells), default=0)):
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(justify=justify, no_wrap=column != wrapped)
    for row in cells:
        table.add_row(*row)
    return table


def _describe_files(profile: LogProfile, report: ReadReport) -> Iterator[Text]:
    for group in profile.files:
        name = group.first
        if group.n_files > 1:
            last = _shorten(group.last, report)
            name = f"{group.n_files:,} files from {_shorten(name, report)} to {last}"
        yield _text(f"{name}: {_count(group.n_rows, 'row')}, {group.format}")


def _shorten(text: str, report: ReadReport) -> str:
    """Remove the path of the source from the start of a path or an example."""
    return text.removeprefix(f"{report.source}, ").removeprefix(f"{report.source}/")


def _describe_columns(profile: LogProfile) -> Iterator[Text | Table]:
    distinct = {
        "user_id": _count(profile.n_users, "user"),
        "item_id": _count(profile.n_items, "item"),
    }
    rows = []
    for use in profile.columns:
        kind = f"{use.type}, {use.reason}" if use.reason else use.type
        rows.append([use.name, f"← {use.source_name}", kind, distinct.get(use.name, "")])
    yield _grid(rows)
    yield _text(f"not used: {', '.join(profile.unused_columns) or 'none'}", "dim")
    rows_have = _share(profile.repeated_fraction)
    yield Text(f"{rows_have} a later row of the same user and item", "dim")
    if profile.repeats:
        yield Text("items repeat: what a user has had may be recommended again", "yellow")


def _share(fraction: float) -> str:
    return f"{fraction:.1%} of the rows have" if fraction else "no row has"


def _describe_ratings(ratings: RatingProfile | None) -> list[Text | Table]:
    if ratings is None:
        return [Text("none: every row counts as positive", "yellow")]
    counts = [bar.n_rows for bar in ratings.histogram]
    least = -math.inf if ratings.positive_from is None else ratings.positive_from
    rows: list[list[_Cell]] = []
    for bar in ratings.histogram:
        label = f"{bar.lowest:g}"
        if bar.highest > bar.lowest:
            label += f" to {bar.highest:g}"
        drawn = Text(
            _draw_bar(bar.n_rows / max(counts)), "green" if bar.lowest >= least else "blue"
        )
        rows.append([label, drawn, f"{bar.n_rows:,}", f"{bar.n_rows / sum(counts):.1%}"])
    scale = "no scale" if ratings.scale is None else "scale {:g} to {:g}".format(*ratings.scale)
    positive = "every rating is positive"
    if ratings.positive_from is not None:
        positive = (
            f"ratings from {least:g} are positive: {ratings.positive_fraction:.1%} of the rows"
        )
    return [Text(f"{scale}; {positive}"), _grid(rows, right=(0, 2, 3))]


def _draw_bar(length: float) -> str:
    """A bar of block characters; `length` is from 0 to 1."""
    eighths = max(1, round(length * _BAR_WIDTH * 8)) if length else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _describe_times(times: TimeProfile | None) -> list[Text | Table]:
    if times is None:
        return [Text("none: rows are taken to be in chronological order", "yellow")]
    rows = [(name, _readable(getattr(times, name))) for name in ("first", "median", "last")]
    order = ": their order is that of the source" if times.tied_fraction else ""
    ties = f"{_share(times.tied_fraction)} the time of the user's row before{order}"
    return [Text(f"from {times.unit}"), _grid(rows), Text(ties, "dim")]


def _readable(time: str) -> str:
    return time.replace("T", " ").replace("Z", " UTC")


def _example_rows(profile: LogProfile, report: ReadReport) -> Iterator[list[_Cell]]:
    yield [Text(name, "dim") for name in ("", "user", "item", "rating", "time")]
    for row in profile.examples:
        title = row.title if row.title != str(row.item_id) else ""
        yield [
            _shorten(f"{row.file}, {row.unit} {row.line}", report),
            str(row.user_id),
            f"{row.item_id} {title}".strip(),
            "–" if row.rating is None else f"{row.rating:g}",
            "–" if row.timestamp is None else _readable(row.timestamp),
        ]


def _describe_finding(finding: Finding, report: ReadReport) -> Iterator[Text]:
    outcome, colour = _OUTCOMES[finding.policy]
    yield Text(f"{finding.check}: {_count(finding.n_rows, 'row')} {outcome}", colour)
    for example in finding.examples:
        yield Text(f"  {_shorten(example, report)}")
    if finding.remedy != REMEDY:
        yield Text(f"  → {spell_settings(finding.remedy, option_names())}", "dim")


def _verdict(report: ReadReport, command: str) -> Iterator[Text]:
    left_out = report.n_rows - report.n_used
    used = f"{report.n_used:,} of {report.n_rows:,} rows are used"
    used = used if left_out else f"All {report.n_rows:,} rows are used"
    if report.quarantine_path is not None:
        yield Text(f"{_count(left_out, 'row')} left out: {report.quarantine_path}")
    if not report.n_used:
        yield Text(f"{used}: there is nothing to train on.", "bold red")
        return
    if report.n_invalid:
        yield Text(f"{used}; {report.n_invalid:,} invalid.", "bold red")
        yield Text("Correct them or decide about them with --policy, or train without them:")
    else:
        yield Text(f"{used}.", "bold green")
        yield Text("If the rows above are right, train:")
    yield Text(command)


def _text(value: str, style: str = "") -> Text:
    """Text of a source, without characters that would control the terminal."""
    shown = (char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value)
    return Text("".join(shown), style)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
