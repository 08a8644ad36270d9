"""What MLflow's scoring server asks and answers: requests in, lists of items out.

A request is a row with one of two columns. `history` names what was watched, oldest first, and asks
what comes next; `similar_to` names one item and asks for others like it. Items are named by title
or by id, ids written as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Object, Property
from pandas.api.types import is_integer_dtype

from recsys import columns
from recsys.recommender import Item, Recommender
from recsys.recommender.bundle import Bundle

HISTORY, SIMILAR_TO = "history", "similar_to"
ITEMS = "items"
K = 10


def signature(bundle: Bundle) -> ModelSignature:
    """The types of requests and answers; ids are numbers or text, as the catalogue has them."""
    has_numbers = is_integer_dtype(bundle.catalogue[columns.ITEM_ID])
    item = Object(
        [
            Property(columns.RANK, DataType.long),
            Property(columns.ITEM_ID, DataType.long if has_numbers else DataType.string),
            Property(columns.TITLE, DataType.string),
            Property(columns.SCORE, DataType.double),
            Property(columns.PROBABILITY, DataType.double, required=False),
        ]
    )
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(Array(DataType.string), HISTORY, required=False),
                ColSpec(DataType.string, SIMILAR_TO, required=False),
            ]
        ),
        outputs=Schema([ColSpec(Array(item), ITEMS)]),
        params=ParamSchema([ParamSpec("k", DataType.long, K)]),
    )


def example(bundle: Bundle) -> pd.DataFrame:
    """A request that the bundle can answer, for the model's page."""
    return pd.DataFrame({HISTORY: [bundle.catalogue[columns.TITLE].head(2).astype(str).tolist()]})


def answer(recommender: Recommender, requests: pd.DataFrame, k: int = K) -> pd.DataFrame:
    """Answer every request.

    Args:
        recommender: who answers.
        requests: `history` or `similar_to` in each row.
        k: how many items to give, at most.

    Returns:
        One row per request; `items` holds its list, best first, each with `rank`, `item_id`,
        `title`, `score` and, where it is one, `probability`.

    Raises:
        MlflowException: a request cannot be answered, which the server tells with status 400.
    """
    if not {HISTORY, SIMILAR_TO} & set(requests.columns):
        raise _refused(f"a request needs {HISTORY!r} (a list) or {SIMILAR_TO!r} (one item)")
    rows = requests.to_dict("records")
    return pd.DataFrame({ITEMS: [_one(recommender, request, k) for request in rows]})


def _one(recommender: Recommender, request: Mapping[Any, Any], k: int) -> list[dict[str, Any]]:
    # What a row lacks is there as None or, among text, as NaN.
    history = request.get(HISTORY)
    similar_to = request.get(SIMILAR_TO)
    asks_next, asks_similar = not _lacks(history), not _lacks(similar_to)
    if asks_next == asks_similar:
        raise _refused(f"a request needs either {HISTORY!r} or {SIMILAR_TO!r}, one of the two")
    try:
        if asks_next:
            watched = [_named(recommender, item) for item in history or ()]
            found = recommender.next_items(watched, k)
        else:
            found = recommender.similar_items(_named(recommender, str(similar_to)), k)
    except ValueError as error:
        raise _refused(str(error)) from error
    return found.as_records()


def _lacks(value: Any) -> bool:
    return value is None or isinstance(value, float)


def _named(recommender: Recommender, text: str) -> Item:
    """A number is an id where the catalogue's ids are numbers."""
    return int(text) if text.isdigit() and int(text) in recommender.bundle.items else text


def _refused(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)
