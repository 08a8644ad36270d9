"""Probabilities that mean what they say: of all items given 10 %, one in ten is watched next.

Label smoothing and dropout leave a model too modest, long training too sure of itself. One number
mends most of it: the temperature that all logits are divided by (Guo et al. 2017, "On calibration
of modern neural networks"). It changes no ranking.

Shapes: B histories, N items, G temperatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import DataError
from recsys.sessions.session_model import SessionModel

_BATCH = 256
_LOG_TEMPERATURES = np.linspace(np.log(0.25), np.log(4.0), 65)


def fit_temperature(
    model: SessionModel,
    histories: Sequence[NDArray[np.int32]],
    targets: NDArray[np.int32],
) -> float:
    """Find the temperature under which the targets are most probable, and have the model use it.

    Args:
        model: its `network.temperature` is set, whatever it was before.
        histories: item indices, oldest first, one array per target; not learned from.
        targets: the item that came next, [n].

    Returns:
        The temperature, between 0.25 and 4.

    Raises:
        DataError: there is no target that its history does not hold already.
    """
    model.network.temperature.fill_(1.0)
    loss_G, n_targets = np.zeros(len(_LOG_TEMPERATURES)), 0
    for scores_BN, targets_B in _possible(model, histories, targets):
        logits_BN = torch.from_numpy(scores_BN)
        target_B = logits_BN[torch.arange(len(targets_B)), torch.from_numpy(targets_B).long()]
        for index, log_temperature in enumerate(_LOG_TEMPERATURES):
            beta = float(np.exp(-log_temperature))
            loss_G[index] += float(((beta * logits_BN).logsumexp(1) - beta * target_B).sum())
        n_targets += len(targets_B)
    if not n_targets:
        raise DataError("there is nothing to calibrate on: no target that its history lacks")
    temperature = float(np.exp(_lowest(loss_G / n_targets)))
    model.network.temperature.fill_(temperature)
    return temperature


def expected_calibration_error(
    model: SessionModel,
    histories: Sequence[NDArray[np.int32]],
    targets: NDArray[np.int32],
    n_bins: int = 15,
) -> float:
    """How far the probability of the first-ranked item is, on average, from how often it is right.

    Predictions are sorted into bins of equal width by that probability; the error is the mean
    over bins of |share right − mean probability|, weighted by size (Guo et al. 2017, eq. 5).

    Args:
        model: the model.
        histories: item indices, oldest first, one array per target.
        targets: the item that came next, [n].
        n_bins: number of bins.
    """
    parts = [
        (np.exp(scores_BN.max(1)), scores_BN.argmax(1) == targets_B)
        for scores_BN, targets_B in _possible(model, histories, targets)
    ]
    if not parts:
        raise DataError("there is nothing to calibrate on: no target that its history lacks")
    confidence, is_right = (np.concatenate(part) for part in zip(*parts, strict=True))
    in_bin = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gap = np.bincount(in_bin, is_right, n_bins) - np.bincount(in_bin, confidence, n_bins)
    return float(np.abs(gap).sum() / len(confidence))


def _possible(
    model: SessionModel, histories: Sequence[NDArray[np.int32]], targets: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Scores and targets by batches, without targets that are ruled out as seen."""
    for start in range(0, len(targets), _BATCH):
        batch = slice(start, start + _BATCH)
        scores_BN = model.score(histories[batch])
        kept_B = np.isfinite(scores_BN[np.arange(len(scores_BN)), targets[batch]])
        if kept_B.any():
            yield scores_BN[kept_B], targets[batch][kept_B]


def _lowest(loss_G: NDArray[np.float64]) -> float:
    """The logarithm of the best temperature, by a parabola through the best of the grid."""
    best = int(np.clip(loss_G.argmin(), 1, len(loss_G) - 2))
    left, middle, right = loss_G[best - 1 : best + 2]
    bend = left - 2.0 * middle + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    step = _LOG_TEMPERATURES[1] - _LOG_TEMPERATURES[0]
    return float(_LOG_TEMPERATURES[best] + np.clip(shift, -1.0, 1.0) * step)
