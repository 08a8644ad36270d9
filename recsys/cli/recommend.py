"""`recsys next`, `similar`, `search`, `explain` and `sequences`: query a recommender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recsys import columns
from recsys.config import CHAMPION

if TYPE_CHECKING:
    import pandas as pd

    from recsys.recommender import Item, Recommender

app = typer.Typer()

MODEL_HELP = "A bundle folder, models:/<name>@<alias>, models:/<name>/<version> or runs:/<id>."

Model = Annotated[str, typer.Option(help=MODEL_HELP)]
K = Annotated[int, typer.Option("-k", min=1, help="The number of rows.")]
History = Annotated[list[str], typer.Argument(help="Titles or ids, oldest first.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("next")
def next_(
    history: History,
    k: K = 10,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--include-seen",
            help="Whether to leave out items of HISTORY.",
            show_default="unless items repeat in the data",
        ),
    ] = None,
    model: Model = CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """Recommend the next items after HISTORY."""
    recommender = _load(model)
    titles = ", ".join(_title(recommender, item) for item in history)
    answer = recommender.next_items(history, k, exclude_seen=exclude_seen)
    _print(answer, f"Next after {titles}", as_json)


@app.command()
def similar(
    item: Annotated[str, typer.Argument(help="Title or id.")],
    k: K = 10,
    model: Model = CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """List the items most similar to ITEM."""
    recommender = _load(model)
    answer = recommender.similar_items(item, k)
    _print(answer, f"Similar to {_title(recommender, item)}", as_json)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="A title, which may be misspelt or incomplete.")],
    k: K = 10,
    model: Model = CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """Find items by title."""
    _print(_load(model).search(query, k), f"Titles matching {query}", as_json)


@app.command()
def explain(
    history: History,
    item: Annotated[str, typer.Option("--item", help="The recommended item.")],
    k: K = 3,
    model: Model = CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """List the items of HISTORY that contribute most to the recommendation of another."""
    answer = _load(model).explain(history, item, k)
    if as_json:
        _print(answer, "", as_json)
        return
    shown = answer[["rank", "because_item_id", "because_title", "score", "cooccurrence"]]
    _print(shown, str(answer["sentence"].iloc[0]), as_json)


@app.command()
def sequences(
    history: History,
    length: Annotated[int, typer.Option(min=1, help="The number of items in a sequence.")] = 5,
    k: Annotated[int, typer.Option("-k", min=1, help="The number of sequences.")] = 3,
    model: Model = CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """List the most probable sequences of items after HISTORY."""
    answer = _load(model).next_sequences(history, length, k=k)
    _print(answer, "The most probable sequences", as_json)


def _load(model: str) -> Recommender:
    from recsys.loading import load_recommender  # imports pandas: not for `recsys --help`

    return load_recommender(model)


def _title(recommender: Recommender, item: Item) -> str:
    return str(recommender.bundle.catalogue[columns.TITLE].iloc[recommender.index_of(item)])


def _print(answer: pd.DataFrame, title: str, as_json: bool) -> None:
    from recsys.console import print_table, printable

    if as_json:
        text = answer.to_json(orient="records", indent=2, force_ascii=False)
        print(printable(text, lambda found: f"\\u{ord(found[0]):04x}"))
    else:
        print_table(answer, title)
