"""Beam search for likely sequences of next items, with torch or numpy.

No item occurs twice in a sequence or its history, unless the model repeats items. Shapes: B
sequences, N items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.arguments import shown, to_indices, to_int
from recsys.cooccurrence import top_k
from recsys.errors import QueryError

if TYPE_CHECKING:
    from recsys.sessions.model import SessionModel, TorchSequences
    from recsys.sessions.numpy_model import NumpySequences, NumpySessionModel


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
    """The most probable sequences of `length` next items, best first.

    `history` contains item indices, oldest first; it may be empty. At most `beam_width` sequences
    are kept at every step and returned. If there are no more than that, the result is exact.

    Raises:
        QueryError: `length` or `beam_width` is below one, `length` exceeds the number of items
            left, or an item of the history is out of range.
    """
    if not hasattr(model, "sequences"):
        raise QueryError(f"model is {shown(model)}: it must be a session model")
    items = to_indices("history", history, model.n_items, QueryError)
    length = to_int("length", length, error=QueryError)
    beam_width = to_int("beam_width", beam_width, error=QueryError)
    n_left = model.n_items - len(np.unique(items))
    if not model.repeats and length > n_left:
        raise QueryError(f"length is {length}: it must be 1 to {n_left}, the number of items left")
    return search_beams(model.sequences(items), length, beam_width)


def search_beams(
    sequences: TorchSequences | NumpySequences,
    length: int,
    beam_width: int,
    allowed_N: NDArray[np.bool_] | None = None,
    on_step: Callable[[], object] = lambda: None,
) -> list[ItemSequence]:
    """Beam search from an encoded history, `model.sequences(history)`; see `beam_search`.

    Only items of `allowed_N` occur. Sequences are shorter than `length` if no items are left.
    `on_step` is called before each item is added.
    """
    beams = [ItemSequence((), ())]
    total_B = np.zeros(1)
    for step in range(length):
        on_step()
        scores_BN = sequences.log_probabilities()
        if allowed_N is not None:
            scores_BN[:, ~allowed_N] = -np.inf
        parent_C, item_C = top_k(scores_BN, beam_width)
        if not len(parent_C):
            break
        score_C = scores_BN[parent_C, item_C].astype(np.float64)
        total_C = total_B[parent_C] + score_C
        order = np.argsort(-total_C, kind="stable")[:beam_width]
        parent_B, item_B, total_B = parent_C[order], item_C[order], total_C[order]
        columns = (parent_B.tolist(), item_B.tolist(), score_C[order].tolist())
        beams = [
            ItemSequence((*beams[parent].items, item), (*beams[parent].log_probabilities, score))
            for parent, item, score in zip(*columns, strict=True)
        ]
        if step + 1 < length:
            sequences = sequences.extend(parent_B, item_B)
    return [beam for beam in beams if beam.items]
