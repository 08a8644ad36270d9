"""`recsys next`, `similar`, `search`, `explain` and `sequences`: query a recommender."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from recsys.config import CHAMPION
from recsys.errors import QueryError, UnknownItemError

if TYPE_CHECKING:
    import pandas as pd

    from recsys.recommender import Recommender

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
    titles = _titles(recommender, model, history, as_json)
    answer = recommender.next_items(history, k, exclude_seen=exclude_seen)
    title = f"Next after {titles}"
    if (answer["score"] - answer["probability"]).abs().max() >= 1e-6:
        title += "; the score combines the probability with the similarity to the history"
    elif not as_json:
        answer = answer.drop(columns="score")
    _print(answer, title, as_json)


@app.command()
def similar(
    item: Annotated[str, typer.Argument(help="Title or id.")],
    k: K = 10,
    model: Model = CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """List the items most similar to ITEM."""
    recommender = _load(model)
    title = _titles(recommender, model, [item], as_json)
    _print(recommender.similar_items(item, k), f"Similar to {title}", as_json)


@app.command()
def search(
    query: Annotated[
        str | None, typer.Argument(help="A title, which may be misspelt or incomplete.")
    ] = None,
    k: K = 10,
    model: Model = CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """Find items by title, or list the most popular ones."""
    recommender = _load(model)
    if query is None:
        _print(recommender.popular_items(k), "The most popular", as_json)
    else:
        found = recommender.search(query, k)
        if found.empty and not as_json:
            raise QueryError(
                f"no title is similar to {query!r}: `recsys search` without a title lists the most "
                "popular items"
            )
        _print(found, f"Titles matching {query}", as_json)


@app.command()
def explain(
    history: History,
    item: Annotated[str, typer.Option("--item", help="The recommended item.")],
    k: K = 3,
    model: Model = CHAMPION,
    as_json: AsJSON = False,
) -> None:
    """List the items of HISTORY that contribute most to the recommendation of another."""
    recommender = _load(model)
    _titles(recommender, model, [*history, item], as_json)
    answer = recommender.explain(history, item, k)
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
    recommender = _load(model)
    titles = _titles(recommender, model, history, as_json)
    answer = recommender.next_sequences(history, length, k=k)
    _print(answer, f"The most probable sequences after {titles}", as_json)


def _load(model: str) -> Recommender:
    from recsys.loading import load_recommender  # imports pandas: not for `recsys --help`

    return load_recommender(model)


def _titles(recommender: Recommender, model: str, items: list[str], as_json: bool) -> str:
    """The titles of items for a heading; with --json, those written differently go to stderr."""
    from recsys.console import printable

    catalogue = recommender.catalogue
    try:
        titles = [catalogue.titles[recommender.index_of(item)] for item in items]
    except UnknownItemError as error:
        option = "" if model == CHAMPION else f" --model {shlex.quote(model)}"
        end = " " if str(error).endswith("?") else "; "
        hint = f"`recsys search TEXT{option}` lists titles"
        raise UnknownItemError(f"{model}: {error}{end}{hint}", error.name, error.closest) from error
    for item, title in zip(items, titles, strict=True):
        if as_json and not catalogue.is_exact(item):
            print(printable(f"{item!r} is {title!r}"), file=sys.stderr)
    return ", ".join(titles)


def _print(answer: pd.DataFrame, title: str, as_json: bool) -> None:
    from recsys.console import print_table, printable

    if as_json:
        text = answer.to_json(orient="records", indent=2, force_ascii=False)
        print(printable(text, lambda found: f"\\u{ord(found[0]):04x}"))
    else:
        print_table(answer, title)
