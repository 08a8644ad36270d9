"""The program within each registered model, which MLflow runs to serve it.

MLflow copies this file into the model and runs the copy; nothing is pickled. The weights are read
from the bundle beside it, verified like any other.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from recsys.recommender import Recommender
from recsys.tracking.serving import K, answer


class ServedRecommender(PythonModel):
    """Answers requests from the bundle of its model."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read and verify the bundle, once."""
        self._recommender = Recommender.load(context.artifacts["bundle"])

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002  MLflow passes it by name
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answer requests; see `recsys.tracking.serving`."""
        return answer(self._recommender, model_input, int((params or {}).get("k", K)))


set_model(ServedRecommender())
