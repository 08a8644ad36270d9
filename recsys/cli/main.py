"""The command line: `recsys similar`, `next`, `items`, `explain`, `watch-list`, `serve`, `data`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from recsys import columns
from recsys.cli import data as cli_data
from recsys.cli import gc as cli_gc
from recsys.cli import serve as cli_serve
from recsys.errors import RecsysError

if TYPE_CHECKING:
    import pandas as pd

    from recsys.recommender import Item, Recommender

app = typer.Typer(
    help="Ask the champion for recommendations; fetch data to train one; clean up.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_gc.app)
app.add_typer(cli_serve.app)

Model = Annotated[
    str,
    typer.Option(
        help="A bundle folder, models:/<name>@<alias>, models:/<name>/<version> or runs:/<id>."
    ),
]
K = Annotated[int, typer.Option("-k", min=1, help="How many to list.")]
History = Annotated[list[str], typer.Argument(help="Titles or ids, oldest first.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_CHAMPION = "models:/recsys@champion"


@app.command()
def similar(
    item: Annotated[str, typer.Argument(help="Title or id.")],
    k: K = 10,
    model: Model = _CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """Items that were liked by the same people as ITEM."""
    recommender = _load(model)
    name = _item(recommender, item)
    _print(recommender.similar_items(name, k), f"Similar to {_title(recommender, name)}", as_json)


@app.command("next")
def next_(
    history: History,
    k: K = 10,
    model: Model = _CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """Items likely to be watched after HISTORY."""
    recommender = _load(model)
    items = [_item(recommender, name) for name in history]
    watched = ", ".join(_title(recommender, item) for item in items)
    _print(recommender.next_items(items, k), f"Next after {watched}", as_json)


@app.command()
def items(
    query: Annotated[str, typer.Argument(help="A title, more or less.")],
    k: K = 10,
    model: Model = _CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """Items whose titles are like QUERY."""
    _print(_load(model).search(query, k), f"Titles like {query}", as_json)


@app.command()
def explain(
    history: History,
    item: Annotated[str, typer.Option("--item", help="What to explain.")],
    k: K = 3,
    model: Model = _CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """Which items of HISTORY speak for another."""
    recommender = _load(model)
    watched = [_item(recommender, name) for name in history]
    answer = recommender.explain(watched, _item(recommender, item), k)
    if as_json:
        _print(answer, "", as_json)
        return
    shown = answer[["rank", "because_item_id", "because_title", "score", "cooccurrence"]]
    _print(shown, str(answer["sentence"].iloc[0]), as_json)


@app.command("watch-list")
def watch_list(
    history: History,
    steps: Annotated[int, typer.Option(min=1, help="How many items a list has.")] = 5,
    k: Annotated[int, typer.Option("-k", min=1, help="How many lists.")] = 3,
    model: Model = _CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """Sequences likely to be watched after HISTORY."""
    recommender = _load(model)
    watched = [_item(recommender, name) for name in history]
    answer = recommender.next_sequences(watched, steps, beam_width=max(k, 8))
    _print(answer[answer["sequence"] <= k], "The most probable lists", as_json)


def _load(model: str) -> Recommender:
    from recsys.loading import load_recommender  # imports torch: not for `recsys --help`

    return load_recommender(model)


def _item(recommender: Recommender, text: str) -> Item:
    """A number is an id where the catalogue's ids are numbers and no title reads so."""
    if text.isdigit() and int(text) in recommender.bundle.items:
        return int(text)
    return text


def _title(recommender: Recommender, item: Item) -> str:
    return str(recommender.bundle.catalogue[columns.TITLE].iloc[recommender.index_of(item)])


def _print(answer: pd.DataFrame, title: str, as_json: bool) -> None:
    if as_json:
        print(answer.to_json(orient="records", indent=2, force_ascii=False))
        return
    from recsys.console import print_table

    print_table(answer, title)


def main() -> None:
    """Run the command line; a user's mistake is told in one line, without a traceback."""
    try:
        app()
    except RecsysError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
