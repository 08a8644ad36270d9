"""The code that MLflow's scoring server runs to serve a registered model.

MLflow copies this file into each model and runs the copy. Nothing is pickled: the weights are
read from the bundle next to it, which is verified.
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
from recsys.errors import QueryError
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
    history = ColSpec(Array(DataType.string), HISTORY, required=False)
    similar_to = ColSpec(DataType.string, SIMILAR_TO, required=False)
    return ModelSignature(
        inputs=Schema([history, similar_to]),
        outputs=Schema([ColSpec(Array(item), ITEMS)]),
        params=ParamSchema([ParamSpec("k", DataType.long, DEFAULT_K)]),
    )


def input_example(bundle: Bundle) -> tuple[pd.DataFrame, dict[str, int]]:
    """A request that the bundle can answer, with its parameters, for the model's page."""
    titles = bundle.catalogue[columns.TITLE].head(2).astype(str).tolist()
    return pd.DataFrame({HISTORY: [titles]}), {"k": DEFAULT_K}


class ServedRecommender(PythonModel):
    """MLflow's interface to the bundle of a model."""

    recommender: Recommender

    def load_context(self, context: PythonModelContext) -> None:
        """Load and verify the bundle."""
        self.recommender = Recommender.load(context.artifacts["bundle"])

    def predict(
        self,
        context: PythonModelContext | None,  # noqa: ARG002  MLflow passes it by name
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answer requests, one per row, with at most `params["k"]` items each.

        A request has a `history` (a list of items, oldest first, to recommend the next ones) or a
        `similar_to` (one item). Items are named by title or by id, with ids written as text. An
        answer is a list `items`, best first, of dicts with `rank`, `item_id`, `title`, `score` and,
        for a history, `probability`.

        Raises:
            MlflowException: a request is invalid; the server answers with status 400.
        """
        k = int((params or {}).get("k", DEFAULT_K))
        rows = model_input.to_dict("records")
        if not {HISTORY, SIMILAR_TO} & set(model_input.columns):
            rows = [{}]  # MLflow drops unknown columns, and rows without columns
        try:
            answers = [_answer(self.recommender, row, k) for row in rows]
        except ValueError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame({ITEMS: answers})


def _answer(recommender: Recommender, request: Mapping[Any, Any], k: int) -> list[dict[str, Any]]:
    # Missing values are NaN in a column of text.
    history, similar_to = (
        None if isinstance(value, float) else value
        for value in (request.get(HISTORY), request.get(SIMILAR_TO))
    )
    if (history is None) == (similar_to is None):
        raise QueryError(
            f"a request needs {HISTORY!r} (a list) or {SIMILAR_TO!r} (one item), and not both"
        )
    if history is None:
        return recommender.similar_items(str(similar_to), k).as_records()
    return recommender.next_items(history, k).as_records()


set_model(ServedRecommender())
