"""Recommenders by name: from a folder, a run, or the model registry."""

from __future__ import annotations

import tempfile
from pathlib import Path

from recsys.recommender import Recommender

CHAMPION = "models:/recsys@champion"
"""The model in use, as the pipeline registers it."""


def load_recommender(source: str | Path = CHAMPION) -> Recommender:
    """Load a recommender.

    Args:
        source: a bundle folder, or `models:/<name>@<alias>`, `models:/<name>/<version>` or
            `runs:/<run id>`, looked up in MLflow.

    Raises:
        BundleError: the bundle is missing, incomplete, altered, or of an unknown format.
        TrackingError: there is no such run or model.
    """
    if str(source).startswith(("models:/", "runs:/")):
        # Only here: a folder is loaded without MLflow, whose import takes seconds.
        from recsys.tracking import fetch_bundle

        with tempfile.TemporaryDirectory(prefix="recsys-") as folder:
            return Recommender.load(fetch_bundle(str(source), Path(folder)))
    return Recommender.load(source)
