"""Lists without near twins.

Shapes: B rows, N items, G groups, P candidates, E dimensions of the embeddings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


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
