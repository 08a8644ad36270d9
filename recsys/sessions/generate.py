"""What could be watched next and after that: whole sequences, with their probabilities.

No item comes twice, nor one that the history holds. Shapes: B sequences, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.sessions.session_model import SessionModel, SessionState


@dataclass(frozen=True)
class WatchList:
    """A sequence of watches that the model has thought of."""

    items: tuple[int, ...]
    """Item indices, in order."""
    log_probability: float
    """Of the whole sequence, given the history."""


def greedy(model: SessionModel, history: Sequence[int], n_watches: int) -> WatchList:
    """Take the most probable item at every step; of equal ones the first."""
    return beam_search(model, history, n_watches, beam_width=1)[0]


def sample(
    model: SessionModel,
    history: Sequence[int],
    n_watches: int,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> WatchList:
    """Draw an item at every step.

    Args:
        model: a trained model.
        history: item indices, oldest first; may be empty.
        n_watches: how many items to draw.
        rng: source of chance.
        temperature: below one sticks to what is probable, above one strays from it.
        top_p: draw among the fewest items that have this probability together (Holtzman et al.
            2020, nucleus sampling).

    Returns:
        The items, and their log-probability under the model as it is, whatever the temperature.

    Raises:
        ValueError: `temperature` is not positive, `top_p` not in (0, 1], or there are fewer
            than `n_watches` items left to watch.
    """
    if temperature <= 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"temperature is {temperature} and top_p {top_p}: the one has to be above zero, "
            "the other above zero and at most one"
        )
    _require_enough(model, history, n_watches)
    state, scores_BN = _begin(model, history)
    items: list[int] = []
    log_probability = 0.0
    while len(items) < n_watches:
        scores_N = _possible(scores_BN, state)[0].double().cpu().numpy()
        item = int(rng.choice(len(scores_N), p=_nucleus(scores_N / temperature, top_p)))
        items.append(item)
        log_probability += float(scores_BN[0, item])
        state, scores_BN = model.advance(state, torch.tensor([item]))
    return WatchList(tuple(items), log_probability)


def _nucleus(logits_N: NDArray[np.float64], top_p: float) -> NDArray[np.float64]:
    """Probabilities of the fewest items that reach `top_p` together; zero for the others."""
    p_N = np.exp(logits_N - logits_N.max())
    p_N /= p_N.sum()
    order = np.argsort(-p_N, kind="stable")
    before = np.cumsum(p_N[order]) - p_N[order]
    p_N[order[before >= top_p]] = 0.0
    kept: NDArray[np.float64] = p_N / p_N.sum()
    return kept


def beam_search(
    model: SessionModel, history: Sequence[int], n_watches: int, beam_width: int = 8
) -> list[WatchList]:
    """The most probable sequences of the next `n_watches` watches, best first.

    Of all continuations of the kept sequences, the `beam_width` most probable are kept at every
    step. With a beam as wide as there are sequences, the answer is exact.

    Args:
        model: a trained model.
        history: item indices, oldest first; may be empty.
        n_watches: length of the sequences.
        beam_width: how many are kept, and given back at most.

    Raises:
        ValueError: `n_watches` or `beam_width` is below one, or there are fewer than
            `n_watches` items left to watch.
    """
    if beam_width < 1:
        raise ValueError(f"beam_width is {beam_width}: keep at least one sequence")
    _require_enough(model, history, n_watches)
    state, scores_BN = _begin(model, history)
    beams: list[list[int]] = [[]]
    total_B = torch.zeros(1, dtype=torch.float64, device=scores_BN.device)
    for watch in range(n_watches):
        total_BN = total_B[:, None] + _possible(scores_BN, state).double()
        total_B, flat_B = _largest(total_BN.flatten(), beam_width)
        parent_B, item_B = flat_B // len(model.items), flat_B % len(model.items)
        beams = [
            [*beams[parent], item]
            for parent, item in zip(parent_B.tolist(), item_B.tolist(), strict=True)
        ]
        if watch + 1 < n_watches:
            state, scores_BN = model.advance(_of_parents(state, parent_B), item_B)
    return [WatchList(tuple(b), t) for b, t in zip(beams, total_B.tolist(), strict=True)]


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest that are not minus infinity; of equal ones the first."""
    values, index = values.sort(descending=True, stable=True)
    n = min(k, int(values.isfinite().sum()))
    return values[:n], index[:n]


def _begin(model: SessionModel, history: Sequence[int]) -> tuple[SessionState, Tensor]:
    """State and scores after a history."""
    state, scores_BN = model.start(), model.opening_scores()
    for item in history:
        state, scores_BN = model.advance(state, torch.tensor([item]))
    return state, scores_BN


def _possible(scores_BN: Tensor, state: SessionState) -> Tensor:
    """The scores with what has been watched ruled out, also where the model would repeat it."""
    return scores_BN.masked_fill(state.seen, -torch.inf)


def _of_parents(state: SessionState, parent_B: Tensor) -> SessionState:
    """The states of the sequences that go on, one for each continuation."""
    return SessionState(
        None if state.memory is None else state.memory.rows(parent_B), state.seen[parent_B]
    )


def _require_enough(model: SessionModel, history: Sequence[int], n_watches: int) -> None:
    strange = [item for item in history if not 0 <= item < len(model.items)]
    if strange:
        raise ValueError(f"the history holds {strange[0]}, which is no item of the model")
    left = len(model.items) - len(set(history))
    if not 1 <= n_watches <= left:
        raise ValueError(f"n_watches is {n_watches}: there are {left} items left to watch")
