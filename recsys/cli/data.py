"""`recsys data list`, `get`, `check` and `synth`: data sets."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from recsys.errors import ConfigError, ExitCode, RecsysError

app = typer.Typer(
    help="List, download, check and generate data sets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Option(help="The parent folder of the data sets.")]

_SYNTH_OPTIONS = {
    "n_users": "--users",
    "n_items": "--items",
    "mean_events": "--events-per-user",
    "seed": "--seed",
}
"""Options of `synth` by field of `SyntheticConfig`."""


@app.command("list")
def list_(folder: Folder = Path("data")) -> None:
    """List the public data sets, and whether they have been downloaded."""
    import pandas as pd

    from recsys.console import print_table
    from recsys.data.public import is_present, public_sources

    rows = [
        (name, source.title, f"{source.bytes / 1e6:5.1f} MB", is_present(folder / name))
        for name, source in public_sources().items()
    ]
    table = pd.DataFrame(rows, columns=["name", "description", "size", "downloaded"])
    table["downloaded"] = table["downloaded"].map({True: "yes", False: "no"})
    print_table(table, f"Public data sets in {folder}")


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="The name of a data set, see `recsys data list`.")],
    folder: Folder = Path("data"),
) -> None:
    """Download NAME if necessary and print its folder.

    The terms of use are printed to standard error.
    """
    from recsys.data.public import fetch, public_sources

    try:
        print(fetch(name, folder, sources=public_sources()))
    except KeyboardInterrupt:
        print("interrupted: nothing was downloaded", file=sys.stderr)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _parse_missing(texts: list[str] | None) -> list[float | str]:
    """Parse `-1`, `-1,-2`, `[-1, -2]` and `unrated`."""
    from recsys.data.options import ReadOptions

    parts = [part.strip(" \"'") for text in texts or () for part in text.strip("[] ").split(",")]
    return list(ReadOptions(missing_ratings=tuple(parts)).missing_ratings)


@app.command()
def check(
    source: Annotated[
        Path | None, typer.Argument(help="A folder, file or zip archive of ratings.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A TOML or JSON file of settings, of which source and the table data are used; "
            "options take precedence over it.",
        ),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option(help="The files with ratings, or patterns of them: '*.csv,!prices.csv'."),
    ] = None,
    layout: Annotated[str | None, typer.Option(help="The layout of the files.")] = None,
    separator: Annotated[str | None, typer.Option(help="The separator of the columns.")] = None,
    encoding: Annotated[str | None, typer.Option(help="The encoding: latin-1, utf-16, …")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="Names where they differ: user_id=visitor; without header, all: a,b,c."),
    ] = None,
    time_unit: Annotated[str | None, typer.Option(help="The unit of times: ms, excel, …")] = None,
    time_format: Annotated[str | None, typer.Option(help="Their format: %d.%m.%Y %H:%M.")] = None,
    repeats: Annotated[
        Literal["auto", "allow", "exclude"] | None,
        typer.Option(help="Whether a user may have an item more than once."),
    ] = None,
    missing_ratings: Annotated[
        list[str] | None,
        typer.Option(
            help="What stands for no rating: -1, [-1,-2] or unrated.", callback=_parse_missing
        ),
    ] = None,
    session_gap: Annotated[
        str | None, typer.Option(help="Time without interactions that ends a session: 30min.")
    ] = None,
    histories: Annotated[
        Literal["auto", "user", "session"] | None,
        typer.Option(help="Whether a history is that of a user or of a session."),
    ] = None,
    events: Annotated[
        list[str] | None, typer.Option(help="Weights of kinds of events: view=0.1,purchase=1.")
    ] = None,
    sequence_events: Annotated[
        list[str] | None, typer.Option(help="A kind of events that forms the histories: view.")
    ] = None,
    scale: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="The range of ratings.")
    ] = None,
    checks: Annotated[
        list[str] | None,
        typer.Option(help="Policies for invalid rows: duplicate=error,future_time=keep."),
    ] = None,
    quarantine_path: Annotated[
        Path | None,
        typer.Option(help="The file for rows left out. Default: <name>.quarantine.parquet."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how the ratings in SOURCE are read, and what is wrong with them.

    SOURCE may also be set in the file of --config.
    Options that are not given are detected.
    Rows left out are written to a file, each with its line and the reason.
    The exit status is 1 if SOURCE is refused or invalid rows are left out.
    Repeated rows and rows without a rating are not invalid.
    """
    given = _parse_options({name: value for name, value in locals().items() if value})
    from recsys.cli.check import print_page, read_settings, train_command
    from recsys.data import ReadReport, read_ratings
    from recsys.data.detection import detect_layout

    overrides = {"data": given} | ({} if source is None else {"source": str(source)})
    settings = read_settings(config, overrides)
    if settings.source is None:
        message = f"name a folder or file, or set source in {config or 'the FILE of --config'}"
        raise typer.BadParameter(message, param_hint="SOURCE")
    reports: list[ReadReport] = []
    try:
        read_ratings(settings.source, **settings.data.read_options(), on_report=reports.append)
    except RecsysError as error:
        if not as_json:
            raise
        _print_json({"source": str(settings.source), "error": str(error)})
        raise typer.Exit(ExitCode.ERROR) from error
    (report,) = reports
    if as_json:
        _print_json(report.to_dict())
    else:
        unread = detect_layout(Path(settings.source), settings.data).unread
        print_page(report, train_command(settings, config, source, given), unread)
    raise typer.Exit(ExitCode.ERROR if report.n_invalid or not report.n_used else ExitCode.OK)


def _parse_options(options: dict[str, Any]) -> dict[str, Any]:
    """The settings of `[data]` that options of `check` are."""
    others = {"source", "config", "scale", "checks", "as_json"}
    settings = {name: value for name, value in options.items() if name not in others}
    if files := settings.get("files"):
        text = ",".join(files)
        settings["files"] = _parse_setting(files) if text.startswith("[") else text.split(",")
    for name in {"columns", "events", "sequence_events"} & settings.keys():
        settings[name] = _parse_setting(settings[name], float if name == "events" else str)
    policies = _pairs(",".join(options.get("checks", ())))
    if "scale" in options:
        policies["scale"] = options["scale"]
    return settings | {"checks": policies}


@app.command()
def synth(
    folder: Annotated[Path, typer.Argument(help="The folder to create.", metavar="OUT_FOLDER")],
    kind: Annotated[
        Literal["films", "music", "shop"],
        typer.Option(help="Ratings of films; plays of music; or events of a shop."),
    ] = "films",
    users: Annotated[int, typer.Option(help="The number of users.")] = 1_000,
    items: Annotated[int, typer.Option(help="The number of items.")] = 600,
    events_per_user: Annotated[
        int | None,
        typer.Option(help="The mean number of ratings (by default 60), plays (80) or views (12)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed generates the same log.")] = 0,
    format_: Annotated[
        Literal["csv", "parquet"],
        typer.Option("--format", help="The file format; csv of films has the layout of MovieLens."),
    ] = "csv",
) -> None:
    """Generate a log: films, music or a shop.

    Films: ratings of any number, with user tastes, film series and viewing sessions.
    Music: plays, mostly of tracks that the user played lately or often, else along an album.
    Shop: short sessions of views within a category, some with carts and purchases.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} already exists: choose a new folder")
    settings: dict[str, Any] = {"n_users": users, "n_items": items, "seed": seed}
    if events_per_user is not None:
        settings["mean_events"] = events_per_user
    try:
        if kind == "films":
            text = _write_films(folder, settings, format_)
        else:
            text = _write_log(folder, {"kind": kind, **settings}, format_)
    except ConfigError as error:
        message = str(error)
        for field, option in _SYNTH_OPTIONS.items():
            message = message.replace(field, option)
        raise ConfigError(message) from None
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error}") from error
    print(f"{text}: {folder}")


def _write_films(folder: Path, settings: dict[str, Any], file_format: str) -> str:
    from recsys.callbacks import History, compose
    from recsys.console import progress_bar
    from recsys.data.synthetic import SyntheticConfig, write_parquet, write_sample

    config, history = SyntheticConfig(**settings), History()
    write = write_parquet if file_format == "parquet" else write_sample
    with progress_bar("generating", config.n_blocks, "ratings", print_line=None) as on_block:
        write(folder.absolute(), config, compose(on_block, history))
    n_ratings = int(history.series("ratings")[-1])
    return f"{n_ratings:,} ratings by {config.n_users:,} users of {config.n_items:,} films"


def _write_log(folder: Path, settings: dict[str, Any], file_format: str) -> str:
    from recsys.data.synthetic_logs import LogConfig, write_log

    config = LogConfig(**settings)
    log = write_log(folder.absolute(), config, f".{file_format}")
    size = f"by {config.n_users:,} users of {config.n_items:,}"
    if config.kind == "shop":
        counts = log["event"].value_counts()
        parts = ", ".join(
            f"{counts.get(kind, 0):,} {kind}s" for kind in ("view", "cart", "purchase")
        )
        return f"{parts} in {log['session_id'].nunique():,} sessions {size} products"
    repeated = log.duplicated(["user_id", "item_id"]).mean()
    return f"{len(log):,} plays {size} tracks, {repeated:.0%} of them repeats"


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, ensure_ascii=False, indent=2))


def _parse_setting(
    texts: list[str], convert: Callable[[str], Any] = str
) -> dict[str, Any] | list[Any]:
    """Parse `a,b` or `NAME=VALUE,NAME=VALUE`, and both as JSON or as in a settings file."""
    text = ",".join(texts).strip()
    if text.startswith(("[", "{")):
        for parse in (json.loads, lambda text: tomllib.loads(f"_ = {text}")["_"]):
            with suppress(ValueError):
                parsed: dict[str, Any] | list[Any] = parse(text)
                return parsed
        raise ConfigError(f"{text!r} is neither JSON nor a value of TOML")
    if "=" not in text:
        return text.split(",")
    try:
        return {name: convert(value) for name, value in _pairs(text).items()}
    except ValueError as error:
        raise ConfigError(f"{text}: {error}; give numbers, such as view=0.1") from error


def _pairs(text: str) -> dict[str, Any]:
    """Parse `NAME=VALUE,NAME=VALUE`."""
    pairs = {}
    for part in text.split(",") if text else []:
        name, equals, value = part.partition("=")
        if not (name and equals):
            raise ConfigError(f"{part!r} is not of the form NAME=VALUE")
        pairs[name] = value
    return pairs
