"""The best of many scores, exactly; and lists without near twins.

Shapes: B rows, N items, G groups, P candidates, E dimensions of the embeddings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

_GROUPS = 256


def best(scores_BN: Floats, k: int) -> tuple[Indices, Indices]:
    """The items with the k highest scores of each row, best first, ties by index.

    Never one of minus infinity, so that a row may have fewer. A sort of 60,000 scores takes
    milliseconds. Instead: the k-th highest among the maxima of many groups of items is reached by
    at least k items, and by few more, and only these are sorted.

    Returns:
        Row and item of each, row after row.

    Example:
        >>> scores = np.array([[0.1, 0.7, -np.inf, 0.7], [0.3, 0.2, 0.1, 0.0]], dtype=np.float32)
        >>> [part.tolist() for part in best(scores, k=3)]
        [[0, 0, 0, 1, 1, 1], [1, 3, 0, 0, 1, 2]]
    """
    n_rows, n_items = scores_BN.shape
    bound_B = np.full(n_rows, np.finfo(np.float32).min)
    groups = max(_GROUPS, 16 * k)
    if n_items >= 2 * groups:
        depth = n_items // groups
        maxima_BG = scores_BN[:, : depth * groups].reshape(n_rows, depth, groups).max(axis=1)
        maxima_BG.partition(groups - k, axis=1)
        np.maximum(bound_B, maxima_BG[:, groups - k], out=bound_B)
    candidates = np.flatnonzero(scores_BN >= bound_B[:, None])
    row, item = np.divmod(candidates, n_items)
    order = np.lexsort((-scores_BN[row, item], row))  # stable: of equal ones the first
    row, item = row[order], item[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    return row[place < k], item[place < k]


def diversify(relevance_P: Floats, unit_PE: Floats, k: int, diversity: float) -> Indices:
    """Choose k candidates one by one, each relevant and unlike those before it.

    Maximal marginal relevance (Carbonell & Goldstein 1998): the next is the one with the highest
    (1 − diversity) · relevance − diversity · (highest cosine to one already chosen).

    Args:
        relevance_P: of each candidate, from zero to one.
        unit_PE: the candidates' unit vectors; zero vectors are like nothing.
        k: how many.
        diversity: zero keeps the order of relevance, one looks at the cosines alone.

    Returns:
        Places among the candidates, in the order chosen, [min(k, P)].

    Example:
        >>> twins = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
        >>> relevance = np.array([1.0, 0.9, 0.5], dtype=np.float32)
        >>> diversify(relevance, twins, k=3, diversity=0.5).tolist()
        [0, 2, 1]
    """
    chosen: list[int] = []
    nearest_P = np.zeros_like(relevance_P)
    left_P = (1.0 - diversity) * relevance_P
    for _ in range(min(k, len(relevance_P))):
        at = int(np.argmax(left_P - diversity * nearest_P))
        chosen.append(at)
        left_P[at] = -np.inf
        nearest_P = np.maximum(nearest_P, unit_PE @ unit_PE[at])
    return np.array(chosen, dtype=np.int64)
