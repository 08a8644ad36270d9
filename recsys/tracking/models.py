"""A run's model: the bundle, and beside it what MLflow needs to serve it.

MLmodel, requirements.txt, …    what MLflow knows of the model
served_model.py, code/          the program that serves it, and the library of the time
artifacts/bundle/               the bundle

Whoever loads a recommender in Python reads the bundle alone, and runs nothing that a model brought
along. Only MLflow's scoring server runs the program.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model

from recsys.recommender.bundle import load_bundle
from recsys.tracking import serving
from recsys.tracking.runs import Run

BUNDLE = "bundle"
"""The name of the bundle's folder within a model."""

BUNDLE_PATH = f"artifacts/{BUNDLE}"
"""Where a model has its bundle."""

_PACKAGE = Path(__file__).parents[1]

NAME = "recommender"
"""What a run's model is called."""

REQUIREMENTS = (
    "fsspec",
    "implicit",
    "lightning-fabric",
    "matplotlib",
    "mlflow",
    "numba",
    "numpy",
    "pandas",
    "psutil",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scipy",
    "threadpoolctl",
    "torch",
)
"""The libraries that serving takes; a model asks for the versions that it was made with."""


def log_bundle(run: Run, folder: Path) -> str:
    """Record a bundle as the model of a run, ready to be registered and served.

    Args:
        run: the run that made it.
        folder: a bundle, as `recsys.recommender.bundle.save_bundle` writes it.

    Returns:
        The id of the model: `models:/<id>`.

    Raises:
        BundleError: the folder holds no whole bundle.
    """
    bundle = load_bundle(folder)
    model = run.client.create_logged_model(
        run.experiment, NAME, source_run_id=run.run_id, model_type="recommender"
    )
    with tempfile.TemporaryDirectory() as work:
        described = Model(run_id=run.run_id, model_id=model.model_id, model_uuid=model.model_id)
        mlflow.pyfunc.save_model(
            path=f"{work}/model",
            python_model=str(_PACKAGE / "tracking" / "served_model.py"),
            artifacts={BUNDLE: str(folder)},
            code_paths=[str(_PACKAGE)],
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
            signature=serving.signature(bundle),
            input_example=(serving.example(bundle), {"k": serving.K}),
            mlflow_model=described,
        )
        run.client.log_model_artifacts(model.model_id, f"{work}/model")
    run.client.finalize_logged_model(model.model_id, "READY")
    run.client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)
