"""Choose the configuration of a baseline on the validation targets, also on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from recsys.arguments import require, require_type, to_array
from recsys.baselines import BASELINES, Baseline, TunedBaseline, fit_baseline
from recsys.cluster import THIS_PROCESS, Workers
from recsys.config import Config, Runtime
from recsys.data import Split
from recsys.evaluation.promotion import PRIMARY_METRIC
from recsys.evaluation.report import estimate_metric


def tune_baseline(
    name: str,
    split: Split,
    *,
    item_vectors: NDArray[np.float32] | None = None,
    runtime: Runtime | None = None,
    max_users: int | None = None,
    workers: Workers = THIS_PROCESS,
    on_trial: Callable[[], object] = lambda: None,
) -> TunedBaseline:
    """Fit a baseline with the configuration that is best on the validation targets.

    Args:
        name: A key of `BASELINES`.
        split: The data.
        item_vectors: Pretrained vectors for "mean-embedding", [n_items, dim].
        runtime: Seed and threads.
        max_users: Number of users to validate on; by default all.
        workers: Those of a cluster, see `recsys.cluster`, try one configuration each. The best is
            fitted again here.
        on_trial: Called for each configuration; may raise an error to stop.
    """
    require(str, name=name)
    require_type(split, Split, "leave_last_out")
    require(Runtime | None, runtime=runtime)
    require(Workers, workers=workers)
    require(Callable, on_trial=on_trial)
    if item_vectors is not None:
        item_vectors = to_array("item_vectors", item_vectors, "f", None, None)

    def validate(model: Baseline) -> float:
        on_trial()
        return _validation_metric(model, split, max_users)

    fit = partial(fit_baseline, name, split.train, item_vectors=item_vectors, runtime=runtime)
    configs = BASELINES[name].configs if name in BASELINES else ()
    if workers is THIS_PROCESS or len(configs) < 2:
        return fit(validate=validate)
    inputs = name, split, item_vectors, runtime, max_users
    trials = []
    for config, metric in zip(configs, workers.map(_try_config, configs, *inputs), strict=True):
        on_trial()
        trials.append((config, metric))
    best, _ = max(trials, key=itemgetter(1))  # of equal ones, the first
    return replace(fit(config=best), trials=tuple(trials))


def _try_config(
    config: Config,
    name: str,
    split: Split,
    item_vectors: NDArray[np.float32] | None,
    runtime: Runtime | None,
    max_users: int | None,
) -> float:
    """The validation metric of a configuration, computed by a worker."""
    fitted = fit_baseline(
        name, split.train, item_vectors=item_vectors, runtime=runtime, config=config
    )
    return _validation_metric(fitted.model, split, max_users)


def _validation_metric(model: Baseline, split: Split, max_users: int | None) -> float:
    return estimate_metric(model, split, "validation", PRIMARY_METRIC, max_users=max_users).mean
