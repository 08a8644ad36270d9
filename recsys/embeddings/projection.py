"""Two-dimensional projections of item embeddings, for plotting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys.arguments import require, require_type, to_array, to_indices, to_int
from recsys.data import Interactions
from recsys.embeddings.item_embeddings import ItemEmbeddings

COLOURS = (
    "#4363d8", "#e6194b", "#3cb44b", "#f58231", "#911eb4", "#42d4f4", "#9a6324", "#f032e6",
    "#469990", "#a9a9a9", "#808000", "#800000", "#000075", "#e8c70a", "#fa8fb1", "#000000",
    "#8fd619", "#b08cff", "#7fcfa0", "#f0a878",
)  # fmt: skip
"""Distinct on a white background: S. Trubetskoy's "20 simple, distinct colors", with the pale ones
darkened and moved to the end."""


Method = Literal["tsne", "pca"]
"""How to project vectors onto the plane."""


def by_frequency(groups: Sequence[str]) -> list[str]:
    """Distinct groups in descending order of size; ties by name."""
    counts = Counter(groups)
    return sorted(counts, key=lambda group: (-counts[group], group))


def project_items(
    embeddings: ItemEmbeddings,
    items: NDArray[Any],
    *,
    seed: int = 0,
    method: Method = "tsne",
) -> NDArray[np.float32]:
    """Project the unit vectors of items onto the plane.

    t-SNE (van der Maaten & Hinton 2008) preserves nearest neighbours. It is initialised with PCA,
    which preserves the global structure. `seed` is that of t-SNE.

    Returns:
        Coordinates of the items with the given indices, [n, 2].
    """
    require_type(embeddings, ItemEmbeddings, "fit_embeddings")
    require(Method, method=method)
    items = to_indices("items", items, len(embeddings.items))
    seed = to_int("seed", seed, 0, 2**32 - 1)
    unit_ND = embeddings.unit_vectors()[items]
    if method == "pca" or len(items) < 3:  # two points have no neighbourhoods to preserve
        return pca_plane(unit_ND).astype(np.float32)
    from sklearn.manifold import TSNE  # slow to import
    from threadpoolctl import threadpool_limits

    layout = TSNE(
        perplexity=min(12.0, (len(items) - 1) / 3),
        init="pca" if np.ptp(unit_ND, axis=0).any() and embeddings.dim > 1 else "random",
        random_state=seed,
    )
    with threadpool_limits(1):  # more threads add up in another order each time
        positions_N2: NDArray[np.float32] = layout.fit_transform(unit_ND).astype(np.float32)
    return positions_N2


def pca_plane(
    vectors_ND: NDArray[np.floating[Any]], fit_rows: NDArray[np.integer[Any]] | None = None
) -> NDArray[np.float64]:
    """Project vectors onto the first two principal components of `fit_rows` (default: all rows).

    Returns:
        Coordinates, [n, 2]. The sign of each axis is such that its largest absolute value is
        positive. An axis without variance is zero.
    """
    vectors_ND = to_array("vectors_ND", vectors_ND, "f", None, None)
    n = len(vectors_ND)
    rows = np.arange(n) if fit_rows is None else to_indices("fit_rows", fit_rows, n)
    if not len(rows):
        return np.zeros((n, 2))
    fitted_FD = vectors_ND[rows]
    mean_D = fitted_FD.mean(axis=0)
    centred_ND = vectors_ND.astype(np.float64) - mean_D
    _, _, axes_KD = np.linalg.svd(fitted_FD.astype(np.float64) - mean_D, full_matrices=False)
    plane_N2 = np.zeros((len(vectors_ND), 2))
    plane_N2[:, : len(axes_KD[:2])] = centred_ND @ axes_KD[:2].T
    # An axis of rounding errors has no variance.
    plane_N2[:, np.abs(plane_N2).max(axis=0) < 1e-6 * np.abs(centred_ND).max(initial=0)] = 0
    farthest_2 = plane_N2[np.abs(plane_N2).argmax(axis=0), [0, 1]]
    return plane_N2 * np.where(farthest_2 < 0, -1.0, 1.0)


def most_popular(
    interactions: Interactions, embeddings: ItemEmbeddings, n_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The most popular items that have a non-zero vector, and their interaction counts."""
    require_type(interactions, Interactions, "read_ratings")
    require_type(embeddings, ItemEmbeddings, "fit_embeddings")
    n_items = to_int("n_items", n_items, 0)
    counts = np.bincount(interactions.item_index, minlength=interactions.n_items)
    counts[~embeddings.vectors.any(axis=1)] = 0
    popular = np.argsort(-counts, kind="stable")[: min(n_items, np.count_nonzero(counts))]
    return popular, counts[popular]
