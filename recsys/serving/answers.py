"""The recommender's records as the answers of the interface."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import orjson
from starlette.responses import Response

from recsys import columns
from recsys.recommender import Recommendations
from recsys.serving.deployment import Model
from recsys.serving.requests import Ranking, Selection, SequencesRequest

_JSON = "application/json"
_WHY = ("because_item_id", "because_title")


def answer(content: dict[str, Any]) -> Response:
    """A response of JSON."""
    return Response(orjson.dumps(content, default=str), media_type=_JSON)


def chosen(model: Model, asked: Selection | SequencesRequest) -> dict[str, Any]:
    """`exclude` and `include` for the recommender."""
    include = None if asked.include is None else model.choice(asked.include)
    return {"exclude": model.choice(asked.exclude), "include": include}


def ranked(model: Model, asked: Ranking) -> dict[str, Any]:
    """All that is asked for beside the history, for the recommender."""
    return {
        "k": asked.k,
        "diversity": asked.diversity,
        "popularity_weight": asked.popularity_weight,
        "embedding_weight": asked.embedding_weight,
        **chosen(model, asked),
    }


def sequences(rows: Recommendations) -> list[dict[str, Any]]:
    """A row for each item as a list for each sequence."""
    return [
        {
            columns.PROBABILITY: steps[0][columns.PROBABILITY],
            "items": [_without(step, "sequence", columns.PROBABILITY) for step in steps],
        }
        for steps in _groups(rows, "sequence")
    ]


def explanations(rows: Recommendations) -> list[dict[str, Any]]:
    """A row for each reason as a list for each item that is explained."""
    return [
        {
            columns.ITEM_ID: reasons[0][columns.ITEM_ID],
            columns.TITLE: reasons[0][columns.TITLE],
            "sentence": reasons[0]["sentence"],
            "reasons": [_reason(row) for row in reasons],
        }
        for reasons in _groups(rows, columns.ITEM_ID)
    ]


def _reason(row: dict[str, Any]) -> dict[str, Any]:
    why_id, why_title = (row[name] for name in _WHY)
    rest = {name: row[name] for name in (columns.RANK, columns.SCORE)}
    both = row["cooccurrence"]
    known = both if isinstance(both, int) else None  # pandas' NA is no number
    return {columns.ITEM_ID: why_id, columns.TITLE: why_title, **rest, "cooccurrence": known}


def _groups(rows: Recommendations, name: str) -> Iterable[list[dict[str, Any]]]:
    for _, group in groupby(rows.as_records(), key=lambda row: row[name]):
        yield list(group)


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
