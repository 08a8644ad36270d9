"""The best of many scores, exactly; and lists without near twins.

Shapes: N items, K of an answer, P candidates, E dimensions of the embeddings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

_GROUPS = 1024


def best(scores_N: Floats, k: int) -> Indices:
    """The items with the k highest scores, best first, ties by index; never one of minus infinity.

    A sort of 60,000 scores takes milliseconds. Instead: the k-th highest among the maxima of many
    groups of items is reached by at least k items, and by few more, and only these are sorted.

    Example:
        >>> best(np.array([0.1, 0.7, -np.inf, 0.7], dtype=np.float32), k=3).tolist()
        [1, 3, 0]
    """
    n_items = len(scores_N)
    groups = max(_GROUPS, 4 * k)
    bound = np.float32(-np.inf)
    if n_items >= 2 * groups:
        rows = n_items // groups
        maxima = scores_N[: rows * groups].reshape(rows, groups).max(axis=0)
        bound = np.partition(maxima, groups - k)[groups - k]
    candidates = np.flatnonzero((scores_N >= bound) & (scores_N > -np.inf))
    order = np.argsort(-scores_N[candidates], kind="stable")[:k]
    return candidates[order]


def diversify(
    candidates: Indices, relevance_P: Floats, unit_PE: Floats, k: int, diversity: float
) -> Indices:
    """Choose k candidates one by one, each relevant and unlike those before it.

    Maximal marginal relevance (Carbonell & Goldstein 1998): the next is the one with the highest
    (1 − diversity) · relevance − diversity · (highest cosine to one already chosen).

    Args:
        candidates: items, [P].
        relevance_P: from zero to one.
        unit_PE: their unit vectors; zero vectors are like nothing.
        k: how many.
        diversity: zero keeps the order of relevance, one looks at the cosines alone.

    Returns:
        Positions among the candidates, in the order chosen, [min(k, P)].

    Example:
        >>> twins = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
        >>> relevance = np.array([1.0, 0.9, 0.5], dtype=np.float32)
        >>> diversify(np.arange(3), relevance, twins, k=3, diversity=0.5).tolist()
        [0, 2, 1]
    """
    chosen: list[int] = []
    nearest_P = np.zeros(len(candidates), dtype=np.float32)
    left_P = (1.0 - diversity) * relevance_P
    for _ in range(min(k, len(candidates))):
        at = int(np.argmax(left_P - diversity * nearest_P))
        chosen.append(at)
        left_P[at] = -np.inf
        nearest_P = np.maximum(nearest_P, unit_PE @ unit_PE[at])
    return np.array(chosen, dtype=np.int64)
