"""What a run was made with and on, as tags to search by."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.git_utils import get_git_commit
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from recsys.config import Runtime
from recsys.data import Subset
from recsys.evaluation import Report

_LIBRARIES = ("recsys", "torch", "numpy", "scipy", "pandas", "mlflow")


def context_tags() -> dict[str, str]:
    """Who ran what program, at which commit, with which versions of the libraries."""
    # MLflow looks for a commit where the program lies, which may be the worker of a scheduler.
    return {**_commit(), **resolve_tags(), **_versions()}


def device_tags(runtime: Runtime) -> dict[str, str]:
    """What is computed on, and in what arithmetic."""
    return {"device": str(runtime.torch_device()), "precision": runtime.torch_precision()}


def protocol_tags(reports: Mapping[Subset, Report]) -> dict[str, str]:
    """The protocol by name, and a digest: results that share it were measured alike."""
    fingerprints = {target: dict(report.fingerprint) for target, report in reports.items()}
    told = json.dumps(fingerprints, sort_keys=True)
    return {
        "protocol": str(next(iter(fingerprints.values()))["protocol"]),
        "protocol_fingerprint": hashlib.sha256(told.encode()).hexdigest()[:16],
    }


@cache
def _commit() -> dict[str, str]:
    """The commit of this code, where it lies in a repository."""
    commit = get_git_commit(__file__)
    return {} if commit is None else {MLFLOW_GIT_COMMIT: commit}


@cache
def _versions() -> dict[str, str]:
    found = {f"version.{name}": version(name) for name in _LIBRARIES}
    return {"version.python": platform.python_version(), **found}
