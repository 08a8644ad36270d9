"""Embeddings in two dimensions, for people to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.embeddings.item_embeddings import ItemEmbeddings


def map_items(
    embeddings: ItemEmbeddings, items: NDArray[Any], *, seed: int = 0
) -> NDArray[np.float32]:
    """Place items in the plane so that near neighbours by cosine stay near.

    t-SNE (van der Maaten & Hinton 2008) from a PCA start, which keeps the large-scale layout
    and makes the map repeatable.

    Args:
        embeddings: the vectors.
        items: indices of the items to place, [n], at least four.
        seed: of the layout.

    Returns:
        Coordinates, [n, 2].
    """
    from sklearn.manifold import TSNE  # slow to import, and nothing else needs it

    unit = embeddings.unit_vectors()[items]
    layout = TSNE(
        perplexity=min(12.0, (len(items) - 1) / 3),
        init="pca" if np.ptp(unit, axis=0).any() and embeddings.dim > 1 else "random",
        method="exact",  # the tree-based approximation only pays from thousands of items on
        random_state=seed,
    )
    positions: NDArray[np.float32] = layout.fit_transform(unit).astype(np.float32)
    return positions
