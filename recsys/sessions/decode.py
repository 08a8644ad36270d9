"""Beam search for likely sequences of next items, with torch or numpy.

No item occurs twice in a sequence or its history. Shapes: B sequences, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import top_k

if TYPE_CHECKING:
    from recsys.sessions.model import SessionModel
    from recsys.sessions.numpy_model import NumpySessionModel


class Sequences(Protocol):
    """A batch of sequences that a session model continues; `sequences()` of both models."""

    def log_probabilities(self) -> NDArray[np.float32]:
        """Of each item as the next, [B, N]; minus infinity for items of the sequence."""
        ...

    def extend(self, parent_B: NDArray[np.int64], item_B: NDArray[np.int64]) -> Self:
        """The sequences at `parent_B`, each with one more item."""
        ...


@dataclass(frozen=True)
class ItemSequence:
    """A decoded sequence."""

    items: tuple[int, ...]
    """Item indices, in order."""
    log_probabilities: tuple[float, ...]
    """Log-probability of each item, given the history and the items before it."""

    @property
    def log_probability(self) -> float:
        """Log-probability of the whole sequence."""
        return sum(self.log_probabilities)


def beam_search(
    model: SessionModel | NumpySessionModel,
    history: Sequence[int] | NDArray[np.integer],
    length: int,
    beam_width: int = 8,
) -> list[ItemSequence]:
    """The most probable sequences of the next items, best first.

    If the beam is as wide as there are sequences, the result is exact.

    Args:
        model: a trained model.
        history: item indices, oldest first; may be empty.
        length: length of the sequences.
        beam_width: number of sequences kept at every step, and maximum number of results.

    Raises:
        ValueError: `length` or `beam_width` is below one, `length` exceeds the number of items
            left, or an item of the history is out of range.
    """
    if beam_width < 1:
        raise ValueError(f"beam_width is {beam_width}: it must be at least 1")
    return search_beams(_encode(model, history, length), length, beam_width)


def search_beams(
    sequences: Sequences,
    length: int,
    beam_width: int,
    allowed_N: NDArray[np.bool_] | None = None,
) -> list[ItemSequence]:
    """Beam search from an encoded history, `model.sequences(history)`; see `beam_search`.

    Only items of `allowed_N` occur. Sequences are shorter than `length` if no items are left.
    """
    beams = [ItemSequence((), ())]
    total_B = np.zeros(1)
    for step in range(length):
        scores_BN = sequences.log_probabilities()
        if allowed_N is not None:
            scores_BN[:, ~allowed_N] = -np.inf
        parent_C, item_C = top_k(scores_BN, beam_width)
        if not len(parent_C):
            break
        score_C = scores_BN[parent_C, item_C].astype(np.float64)
        total_C = total_B[parent_C] + score_C
        order = np.argsort(-total_C, kind="stable")[:beam_width]
        parent_B, item_B, score_B = parent_C[order], item_C[order], score_C[order]
        total_B = total_C[order]
        columns = (column.tolist() for column in (parent_B, item_B, score_B))
        beams = [
            ItemSequence((*beams[parent].items, item), (*beams[parent].log_probabilities, score))
            for parent, item, score in zip(*columns, strict=True)
        ]
        if step + 1 < length:
            sequences = sequences.extend(parent_B, item_B)
    return [beam for beam in beams if beam.items]


def _encode(
    model: SessionModel | NumpySessionModel,
    history: Sequence[int] | NDArray[np.integer],
    length: int,
) -> Sequences:
    items = np.asarray(history, dtype=np.int64)
    n_items = model.n_items
    unknown = items[(items < 0) | (items >= n_items)]
    if len(unknown):
        raise ValueError(f"the history contains {unknown[0]}: item indices are 0 to {n_items - 1}")
    n_left = n_items - len(np.unique(items))
    if not 1 <= length <= n_left:
        raise ValueError(f"length is {length}: it must be 1 to {n_left}, the number of items left")
    return model.sequences(items)
