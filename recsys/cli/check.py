"""The page of `recsys data check`, which shows how a log is understood."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from recsys.console import output_console
from recsys.data import Finding, ReadReport
from recsys.data.profile import LogProfile
from recsys.data.report import REMEDY

_Cell = str | Text | Bar

_BAR_WIDTH = 32

_OUTCOMES = {"quarantine": ("left out", "yellow"), "keep": ("used", "cyan")}


def print_page(report: ReadReport, source: Path, given: Sequence[str]) -> None:
    """Print what a source was understood to be, what failed the checks, and the next command.

    Args:
        report: The report of reading.
        source: The source as it was given.
        given: The names of the settings that were given.
    """
    console, profile = output_console(), report.profile
    if profile is None:  # the source was read in partitions, which this command does not do
        return
    findings = [line for finding in report.findings for line in _describe_finding(finding, report)]
    sections: dict[str, Iterable[Text | Table]] = {
        "Files": _describe_files(profile, report),
        "Columns": _describe_columns(profile),
        "Ratings": _describe_ratings(profile.ratings),
        "Times": _describe_times(profile.times),
        "The first rows, as they were understood": [_example_rows(profile, report)],
        "Checks": findings or [Text("no row failed a check", "green")],
        "Result": _verdict(report, source, given),
    }
    for title, parts in sections.items():
        console.print(Text(title if title == "Files" else f"\n{title}", "bold"))
        for part in parts:
            if isinstance(part, Text):  # a long path is not broken, so that it can be copied
                console.print(Text("  ") + part, soft_wrap=True)
            else:
                console.print(Padding(part, (0, 0, 0, 2), expand=False))


def _grid(rows: Iterable[Sequence[_Cell]], alignment: str) -> Table:
    """Arrange rows in columns: `l` is aligned to the left, `r` to the right, `w` is wrapped."""
    table = Table.grid(padding=(0, 3, 0, 0))
    for letter in alignment:
        table.add_column(justify="right" if letter == "r" else "left", no_wrap=letter != "w")
    for row in rows:
        table.add_row(*(_text(cell) if isinstance(cell, str) else cell for cell in row))
    return table


def _describe_files(profile: LogProfile, report: ReadReport) -> Iterator[Text]:
    for group in profile.files:
        name = group["first"]
        if group["n_files"] > 1:
            first, last = _shorten(name, report), _shorten(group["last"], report)
            name = f"{group['n_files']:,} files from {first} to {last}"
        yield _text(f"{name}: {_count(group['n_rows'], 'row')}, {group['format']}")


def _shorten(text: str, report: ReadReport) -> str:
    """Remove the path of the source from the start of a path or an example."""
    return text.removeprefix(f"{report.source}, ").removeprefix(f"{report.source}/")


def _describe_columns(profile: LogProfile) -> Iterator[Text | Table]:
    users, items = _count(profile.n_users, "user"), _count(profile.n_items, "item")
    distinct = {"user_id": users, "item_id": items}
    yield _grid(
        [
            (
                use["name"],
                f"← {use['source_name']}",
                ", ".join(filter(None, (use["type"], use["reason"]))),
                distinct.get(use["name"], ""),
            )
            for use in profile.columns
        ],
        "llll",
    )
    yield _text(f"not used: {', '.join(profile.unused_columns) or 'none'}", "dim")
    rows_have = _share(profile.repeated_fraction)
    yield Text(f"{rows_have} a later row of the same user and item", "dim")
    if profile.repeats:
        yield Text("items repeat: what a user has had may be recommended again", "yellow")


def _share(fraction: float) -> str:
    return f"{fraction:.1%} of the rows have" if fraction else "no row has"


def _describe_ratings(ratings: dict[str, Any] | None) -> Iterator[Text | Table]:
    if ratings is None:
        yield Text("none: every row counts as positive", "yellow")
        return
    least, bars = ratings["positive_from"], ratings["histogram"]
    scale = "scale {:g} to {:g}".format(*ratings["scale"]) if ratings["scale"] else "no scale"
    positive = "every rating is positive"
    if least is not None:
        share = ratings["positive_fraction"]
        positive = f"ratings from {least:g} are positive: {share:.1%} of the rows"
    yield Text(f"{scale}; {positive}")
    most, total = max(bar["n_rows"] for bar in bars), sum(bar["n_rows"] for bar in bars)
    rows = []
    for bar in bars:
        lowest, highest, n = bar["lowest"], bar["highest"], bar["n_rows"]
        label = f"{lowest:g} to {highest:g}" if highest > lowest else f"{lowest:g}"
        colour = "green" if lowest >= (-math.inf if least is None else least) else "blue"
        drawn = Bar(most, 0, n, width=_BAR_WIDTH, color=colour)
        rows.append((label, drawn, f"{n:,}", f"{n / total:.1%}"))
    yield _grid(rows, "rlrr")


def _describe_times(times: dict[str, Any] | None) -> list[Text | Table]:
    if times is None:
        return [Text("none: rows are taken to be in chronological order", "yellow")]
    rows = [(name, _readable(times[name])) for name in ("first", "median", "last")]
    order = ": their order is that of the source" if times["tied_fraction"] else ""
    ties = f"{_share(times['tied_fraction'])} the time of the user's row before{order}"
    return [Text(f"from {times['unit']}"), _grid(rows, "ll"), Text(ties, "dim")]


def _readable(time: str) -> str:
    return time.replace("T", " ").replace("Z", " UTC")


def _example_rows(profile: LogProfile, report: ReadReport) -> Table:
    rows: list[Sequence[_Cell]] = [
        [Text(name, "dim") for name in ("", "user", "item", "rating", "time")]
    ]
    for row in profile.examples:
        item, title, rating, time = (
            row[name] for name in ("item_id", "title", "rating", "timestamp")
        )
        rows.append(
            [
                _shorten("{file}, {unit} {line}".format_map(row), report),
                str(row["user_id"]),
                title if title == str(item) else f"{item} {title}",
                "–" if rating is None else f"{rating:g}",
                "–" if time is None else _readable(time),
            ]
        )
    return _grid(rows, "llwll")


def _describe_finding(finding: Finding, report: ReadReport) -> Iterator[Text]:
    outcome, colour = _OUTCOMES[finding.policy]
    yield Text(f"{finding.check}: {_count(finding.n_rows, 'row')} {outcome}", colour)
    for example in finding.examples:
        yield _text(f"  {_shorten(example, report)}")
    if finding.remedy != REMEDY:
        yield Text(f"  → {finding.remedy}", "dim")


def _verdict(report: ReadReport, source: Path, given: Sequence[str]) -> Iterator[Text]:
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
        yield Text("Correct them or decide about them with --checks, or train without them:")
    else:
        yield Text(f"{used}.", "bold green")
        yield Text("If the rows above are right, train:")
    yield Text(shlex.join(["recsys", "train", "--source", str(source)]))
    if given:
        options = ", ".join(f"--data.{name.replace('_', '-')}" for name in given)
        yield Text(f"with the same options: {options}")


def _text(value: str, style: str = "") -> Text:
    """Text of a source, without characters that would control the terminal."""
    shown = (char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value)
    return Text("".join(shown), style)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
