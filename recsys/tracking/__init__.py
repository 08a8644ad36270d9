"""Runs and registered models in MLflow. No other package imports MLflow.

The public names are listed in `__init__.pyi`. Each is imported when it is first used, so that a
recommender in a local store is loaded without importing MLflow, which takes seconds.
"""

import os

import lazy_loader

# MLflow reads these when it is imported: no telemetry, no progress bars for copying a few files.
# A server that dies is tried for about 15 seconds (four retries, after 0, 2, 4 and 8 seconds), a
# silent one for a minute each time. By default MLflow takes minutes for one request.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
