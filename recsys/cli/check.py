"""The page of `recsys data check`, which shows how a log is understood."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from rich.bar import Bar
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from recsys.config import MODEL_NAME
from recsys.console import output_console
from recsys.data import DataConfig, Finding, ReadReport
from recsys.data.detection import listed
from recsys.data.profile import LogProfile, readable
from recsys.data.report import REMEDY

_Cell = str | Text | Bar

_BAR_WIDTH = 32

_TITLES_HINT = "titles of items are read from items.csv next to the log, not from a column of it"

_OUTCOMES = {"quarantine": ("left out", "yellow"), "keep": ("used", "cyan")}


class Settings(Protocol):
    """The settings of the flows that decide how a log is read."""

    source: str | None
    data: DataConfig
    model_fields_set: set[str]


def read_settings(config: Path | None, overrides: Mapping[str, Any]) -> Settings:
    """Read a file of settings, if any, as the flows do: a mistake in any of them is an error."""
    settings: Settings = import_module("flows.settings").read_settings(config, overrides)
    return settings


def train_command(
    settings: Settings, config: Path | None, source: Path | None, given: Mapping[str, Any]
) -> str:
    """The command that trains on what was read.

    Args:
        settings: All settings.
        config: The file with some of them, if any.
        source: The source, if it was named on the command line.
        given: The settings of `[data]` that were given there.
    """
    name = None
    if settings.source is not None and "model_name" not in settings.model_fields_set:
        name = _model_name(Path(settings.source))
    options: dict[str, Any] = {"config": config, "source": source, "model-name": name}
    policies = {f"checks.{check}": value for check, value in given["checks"].items()}
    for setting, value in ({**given, "checks": None} | policies).items():
        options[f"data.{setting.replace('_', '-')}"] = value
    command = ["recsys", "train"]
    for option, value in options.items():
        if isinstance(value, dict | list | tuple):
            command += [f"--{option}", json.dumps(value, ensure_ascii=False)]
        elif value is not None:
            command += [f"--{option}", str(value)]
    return shlex.join(command)


def print_page(report: ReadReport, command: str, unread: Sequence[str]) -> None:
    """Print what a source was understood to be, what failed the checks, and the next command.

    Args:
        report: What was read.
        command: The next command.
        unread: Other tables of the source.
    """
    console, profile = output_console(), report.profile
    if profile is None:  # the source was read in partitions, which this command does not do
        return
    properties: dict[str, list[Text | Table]] = {
        name: [_grid(section.items(), "lw")] for name, section in profile.sections().items()
    }
    findings = [line for finding in report.findings for line in _describe_finding(finding, report)]
    findings += [_text(note, "yellow") for note in report.notes]
    has_titles = any(row["title"] != str(row["item_id"]) for row in profile.examples)
    if profile.unused_columns and not has_titles:
        properties["Columns"].append(Text(_TITLES_HINT, "dim"))
    if profile.ratings:
        properties["Ratings"].append(_draw_histogram(profile.ratings))
    sections: dict[str, Iterable[Text | Table]] = {
        "Files": _describe_files(profile, report, unread),
        **properties,
        "The first rows, as they were understood": [_example_rows(profile, report)],
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


def _grid(rows: Iterable[Sequence[_Cell]], alignment: str) -> Table:
    """Arrange rows in columns: `l` is aligned to the left, `r` to the right, `w` is wrapped."""
    table = Table.grid(padding=(0, 3, 0, 0))
    for letter in alignment:
        table.add_column(justify="right" if letter == "r" else "left", no_wrap=letter != "w")
    for row in rows:
        table.add_row(*(_text(cell) if isinstance(cell, str) else cell for cell in row))
    return table


def _describe_files(
    profile: LogProfile, report: ReadReport, unread: Sequence[str]
) -> Iterator[Text]:
    for group in profile.files:
        name = group["first"]
        if group["n_files"] > 1:
            first, last = _shorten(name, report), _shorten(group["last"], report)
            name = f"{group['n_files']:,} files from {first} to {last}"
        yield _text(f"{name}: {_count(group['n_rows'], 'row')}, {group['format']}")
    if unread:
        yield _text(f"not read: {listed(unread)}", "dim")


def _shorten(text: str, report: ReadReport) -> str:
    """Remove the path of the source from the start of a path or an example."""
    return text.removeprefix(f"{report.source}, ").removeprefix(f"{report.source}/")


def _draw_histogram(ratings: dict[str, Any]) -> Table:
    """A bar per rating; those that are positive are green."""
    least, bars = ratings["positive_from"], ratings["histogram"]
    counts = [bar["n_rows"] for bar in bars]
    rows: list[Sequence[_Cell]] = []
    for bar, n in zip(bars, counts, strict=True):
        lowest, highest = bar["lowest"], bar["highest"]
        label = f"{lowest:g} to {highest:g}" if highest > lowest else f"{lowest:g}"
        colour = "green" if least is None or lowest >= least else "blue"
        drawn = Bar(max(counts), 0, n, width=_BAR_WIDTH, color=colour)
        rows.append((label, drawn, f"{n:,}", f"{n / sum(counts):.1%}"))
    return _grid(rows, "rlrr")


def _example_rows(profile: LogProfile, report: ReadReport) -> Table:
    rows: list[Sequence[_Cell]] = [
        [Text(name, "dim") for name in ("", profile.histories, "item", "rating", "time")]
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
                "–" if time is None else readable(time),
            ]
        )
    return _grid(rows, "llwll")


def _describe_finding(finding: Finding, report: ReadReport) -> Iterator[Text]:
    outcome, colour = _OUTCOMES[finding.policy]
    title = Text(f"{finding.check}: {_count(finding.n_rows, 'row')} {outcome}", colour)
    examples = [_text(_shorten(example, report)) for example in finding.examples]
    if finding.policy == "keep":
        yield title + Text(": ") + examples[0]
    else:
        yield title
        yield from (Text("  ") + example for example in examples)
    if finding.remedy != REMEDY:
        yield Text(f"  → {finding.remedy}", "dim")


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
        yield Text("Correct them or decide about them with --checks, or train without them:")
    else:
        yield Text(f"{used}.", "bold green")
        yield Text("If the rows above are right, train:")
    yield Text(command)


def _model_name(source: Path) -> str:
    """A name for the models of a source: each catalogue has its own champion.

    It is that of the file or folder, or of the first folder around it whose name has letters.
    """
    path = source.resolve()
    names = [re.sub(r"\W+", "-", part.stem.lower()).strip("-") for part in (path, *path.parents)]
    return next((name for name in names if re.search(r"[^\W\d_]", name)), MODEL_NAME)


def _text(value: str, style: str = "") -> Text:
    """Text of a source, without characters that would control the terminal."""
    shown = (char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value)
    return Text("".join(shown), style)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
