"""Embeddings in two dimensions, for people to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys.data import Interactions
from recsys.embeddings.item_embeddings import ItemEmbeddings

COLOURS = (
    "#4363d8", "#e6194b", "#3cb44b", "#f58231", "#911eb4", "#42d4f4", "#9a6324", "#f032e6",
    "#469990", "#a9a9a9", "#808000", "#800000", "#000075", "#e8c70a", "#fa8fb1", "#000000",
    "#8fd619", "#b08cff", "#7fcfa0", "#f0a878",
)  # fmt: skip
"""As many as MovieLens has genres and two more, each told from the others on white; the order is
that of S. Trubetskoy's "20 simple, distinct colors", the pale ones darkened and last."""


def by_frequency(groups: Sequence[str]) -> list[str]:
    """The different groups, those with the most items first, equal ones by name."""
    counts = Counter(groups)
    return sorted(counts, key=lambda group: (-counts[group], group))


def project_items(
    embeddings: ItemEmbeddings,
    items: NDArray[Any],
    *,
    seed: int = 0,
    method: Literal["tsne", "pca"] = "tsne",
) -> NDArray[np.float32]:
    """Place items in the plane by the cosine of their vectors.

    t-SNE (van der Maaten & Hinton 2008) keeps near neighbours near; it starts from PCA, which
    keeps the large-scale layout and makes the map repeatable. PCA alone is the plane that shows
    most of the differences.

    Args:
        embeddings: the vectors.
        items: indices of the items to place, [n], at least four.
        seed: of the layout.
        method: t-SNE or PCA.

    Returns:
        Coordinates, [n, 2].
    """
    from sklearn.manifold import TSNE  # slow to import, and nothing else needs it

    unit = embeddings.unit_vectors()[items]
    if method == "pca":
        return _principal_plane(unit)
    layout = TSNE(
        perplexity=min(12.0, (len(items) - 1) / 3),
        init="pca" if np.ptp(unit, axis=0).any() and embeddings.dim > 1 else "random",
        method="exact",  # the tree-based approximation only pays from thousands of items on
        random_state=seed,
    )
    positions: NDArray[np.float32] = layout.fit_transform(unit).astype(np.float32)
    return positions


def most_popular(
    interactions: Interactions, embeddings: ItemEmbeddings, n_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The items worth placing: the most watched of those that have a vector.

    Returns:
        Indices of at most `n_items` items, the most watched first, and how often each was watched.
    """
    watches = np.bincount(interactions.item_index, minlength=interactions.n_items)
    watches[~embeddings.vectors.any(axis=1)] = 0
    popular = np.argsort(-watches, kind="stable")[: min(n_items, np.count_nonzero(watches))]
    return popular, watches[popular]


def _principal_plane(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    centred_ND = vectors_ND.astype(np.float64) - vectors_ND.mean(axis=0)
    left_NK, lengths_K, _ = np.linalg.svd(centred_ND, full_matrices=False)
    # An axis has no sign of its own: the item farthest out is on the positive side.
    signs_K = np.sign(left_NK[np.abs(left_NK).argmax(axis=0), np.arange(left_NK.shape[1])])
    plane = np.zeros((len(vectors_ND), 2), dtype=np.float32)
    plane[:, : left_NK.shape[1]] = (left_NK * lengths_K * signs_K)[:, :2]
    return plane
