"""The code that MLflow's scoring server runs to serve a registered model.

MLflow copies this file into each model and runs the copy. Nothing is pickled: the weights are
read from the bundle next to it, which is verified.

A request is a row with one of two columns. `history` is a list of items, oldest first, and asks
for the next ones; `similar_to` is one item and asks for similar ones. Items are named by title or
by id, with ids written as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Object, Property
from pandas.api.types import is_integer_dtype

from recsys import columns
from recsys.recommender import Recommender
from recsys.recommender.bundle import Bundle

HISTORY, SIMILAR_TO = "history", "similar_to"
ITEMS = "items"
DEFAULT_K = 10


def signature(bundle: Bundle) -> ModelSignature:
    """Types of requests and answers. Item ids have the type that they have in the catalogue."""
    has_integer_ids = is_integer_dtype(bundle.catalogue[columns.ITEM_ID])
    item = Object(
        [
            Property(columns.RANK, DataType.long),
            Property(columns.ITEM_ID, DataType.long if has_integer_ids else DataType.string),
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
        params=ParamSchema([ParamSpec("k", DataType.long, DEFAULT_K)]),
    )


def input_example(bundle: Bundle) -> pd.DataFrame:
    """A request that the bundle can answer, shown on the model's page."""
    return pd.DataFrame({HISTORY: [bundle.catalogue[columns.TITLE].head(2).astype(str).tolist()]})


def predict(recommender: Recommender, requests: pd.DataFrame, k: int = DEFAULT_K) -> pd.DataFrame:
    """Answer requests.

    Args:
        recommender: the recommender that answers.
        requests: one request per row, with a `history` or a `similar_to`.
        k: the maximum number of items per answer.

    Returns:
        One row per request; its `items` is a list, best first, of dicts with `rank`, `item_id`,
        `title`, `score` and, for a history, `probability`.

    Raises:
        MlflowException: a request is invalid; the server answers with status 400.
    """
    if not {HISTORY, SIMILAR_TO} & set(requests.columns):
        raise _invalid(f"a request needs {HISTORY!r} (a list) or {SIMILAR_TO!r} (one item)")
    rows = requests.to_dict("records")
    return pd.DataFrame({ITEMS: [_answer(recommender, request, k) for request in rows]})


def _answer(recommender: Recommender, request: Mapping[Any, Any], k: int) -> list[dict[str, Any]]:
    history, similar_to = request.get(HISTORY), request.get(SIMILAR_TO)
    if _is_missing(history) == _is_missing(similar_to):
        raise _invalid(f"a request needs either {HISTORY!r} or {SIMILAR_TO!r}, not both")
    try:
        if _is_missing(similar_to):
            items = [recommender.parse_item(text) for text in history or ()]
            return recommender.next_items(items, k).as_records()
        return recommender.similar_items(recommender.parse_item(str(similar_to)), k).as_records()
    except ValueError as error:
        raise _invalid(str(error)) from error


def _is_missing(value: Any) -> bool:
    return value is None or isinstance(value, float)  # NaN, in a column of text


def _invalid(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


class ServedRecommender(PythonModel):
    """MLflow's interface to the bundle of a model."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load and verify the bundle."""
        self._recommender = Recommender.load(context.artifacts["bundle"])

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002  MLflow passes it by name
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answer requests, as the function `predict` of this module."""
        return predict(self._recommender, model_input, int((params or {}).get("k", DEFAULT_K)))


set_model(ServedRecommender())
