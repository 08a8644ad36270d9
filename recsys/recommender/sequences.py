"""Whole sequences of what could be watched next, by beam search.

Shapes: N items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import top_k
from recsys.recommender.catalogue import Floats
from recsys.recommender.scoring import log_sum_exp
from recsys.sessions.numpy_model import NumpySessionModel, State


@dataclass(frozen=True, eq=False)
class ItemSequence:
    """A sequence of watches."""

    items: tuple[int, ...]
    steps: tuple[float, ...]
    """Log-probability of each watch, given those before it."""
    memory: State

    @property
    def log_probability(self) -> float:
        """Of the whole sequence."""
        return sum(self.steps)


def beam_search(
    model: NumpySessionModel,
    watched: NDArray[np.int32],
    n_steps: int,
    beam_width: int,
    allowed_N: NDArray[np.bool_] | None,
) -> list[ItemSequence]:
    """The most probable sequences of allowed items, best first, `beam_width` at most.

    No item comes twice, nor one that was watched. As `recsys.sessions.beam_search`, and shorter
    where there are fewer items left than steps.
    """
    beams = [ItemSequence((), (), model.encode(watched))]
    for _ in range(n_steps):
        longer: list[tuple[float, ItemSequence, int, float]] = []
        for beam in beams:
            scores_N = _log_probability(model, beam, watched)
            if allowed_N is not None:
                scores_N[~allowed_N] = -np.inf
            for item in top_k(scores_N[None], beam_width)[1].tolist():
                step = float(scores_N[item])
                longer.append((beam.log_probability + step, beam, item, step))
        if not longer:
            break
        longer.sort(key=lambda candidate: -candidate[0])  # stable: of equal ones the first
        beams = [
            ItemSequence(
                (*beam.items, item), (*beam.steps, step), model.step(beam.memory.copy(), [item])
            )
            for _, beam, item, step in longer[:beam_width]
        ]
    return [beam for beam in beams if beam.items]


def _log_probability(
    model: NumpySessionModel, beam: ItemSequence, watched: NDArray[np.int32]
) -> Floats:
    """Of each item to be watched next, [N]; minus infinity for what was watched before."""
    logits_N = model.logits(beam.memory)
    seen = [*watched.tolist(), *beam.items]
    if model.config.exclude_seen:
        logits_N[seen] = -np.inf
    logits_N -= log_sum_exp(logits_N[None])[0]
    logits_N[seen] = -np.inf
    return logits_N
