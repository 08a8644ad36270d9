"""What experiments and runs are called, so that a person finds them again in a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from recsys.data import DataConfig

_PLAIN = "session_model"
"""The stage whose settings go without its name: it is the one that is tried out most."""


def experiment_name(source: str, data: DataConfig) -> str:
    """One experiment per data set and protocol: what stands in one list can be compared.

    Args:
        source: where the ratings are.
        data: how they are filtered and split.

    Example:
        >>> from recsys.data.config import Filters, LeaveLastN
        >>> experiment_name("data/ml-1m", DataConfig())
        'ml-1m, leave-last-out'
        >>> fewer = DataConfig(split=LeaveLastN(n=2), filters=Filters(min_user_interactions=5))
        >>> experiment_name("ratings.csv", fewer)
        'ratings.csv, leave-last-n n=2 min_user_interactions=5'
    """
    split = data.split.model_dump(mode="json")
    method = split.pop("method").replace("_", "-")
    filters = data.filters.model_dump(mode="json", exclude_defaults=True)
    told = [f"{name}={value}" for name, value in (split | filters).items()]
    return f"{Path(source).resolve().name}, {' '.join([method, *told])}"


def run_name(kind: str, configs: Mapping[str, BaseModel], *, now: datetime | None = None) -> str:
    """What is out of the ordinary about a run, and when it began.

    Args:
        kind: what sort of run it is.
        configs: its configurations by stage; what is not their default is told.
        now: when it begins; the default is this moment.

    Example:
        >>> from recsys.config import Runtime
        >>> run_name("train", {"runtime": Runtime(seed=3)}, now=datetime(2026, 11, 25, 17, 31))
        'train runtime.seed=3 · 25 Nov 17:31'
    """
    changes = [
        f"{name.removeprefix(f'{_PLAIN}.')}={value}"
        for stage, config in configs.items()
        for name, value in flatten(stage, config.model_dump(mode="json", exclude_defaults=True))
    ]
    moment = now or datetime.now().astimezone()
    return f"{' '.join([kind, *changes])} · {moment.day} {moment:%b %H:%M}"


def flatten(prefix: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every field, however deep, with a name such as `session_model.epochs`."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from flatten(f"{prefix}.{name}", value)
        else:
            yield f"{prefix}.{name}", value
