"""All items in the plane: the two longest axes of their embeddings.

Shapes: N items, E dimensions of the embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys import columns
from recsys.recommender import Recommender

_SHOWN = (1.0, 99.0)
"""Percentiles that the map's edges are drawn through, lest a few far items shrink all else."""


def principal_plane(
    vectors_NE: NDArray[np.float32], fitted: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Where items lie in the plane in which some of them spread widest (PCA), [N, 2].

    Args:
        vectors_NE: of all items.
        fitted: the items that the axes are laid through.

    Returns:
        Coordinates from -1 to 1; what lies beyond the edges is drawn at the edge. The signs are
        such that the item farthest out on each axis lies to the right, or above.

    Example:
        >>> line = np.array([[0, 0, 1], [0, 1, 1], [0, 4, 1]], dtype=np.float32)
        >>> principal_plane(line, np.arange(3)).round(3).tolist()
        [[-1.0, 0.0], [-0.5, 0.0], [1.0, 0.0]]
    """
    centred_NE = vectors_NE - vectors_NE[fitted].mean(axis=0)
    _, _, axes_EE = np.linalg.svd(centred_NE[fitted], full_matrices=False)
    plane_N2 = np.zeros((len(vectors_NE), 2))
    plane_N2[:, : len(axes_EE[:2])] = centred_NE @ axes_EE[:2].T
    plane_N2[np.abs(plane_N2) < 1e-6 * np.abs(centred_NE).max(initial=0)] = 0
    farthest_2 = np.take_along_axis(plane_N2, np.abs(plane_N2).argmax(axis=0)[None], axis=0)[0]
    plane_N2 *= np.where(farthest_2 < 0, -1.0, 1.0)
    low_2, high_2 = np.percentile(plane_N2[fitted], _SHOWN, axis=0)
    centre_2, half_2 = (high_2 + low_2) / 2, (high_2 - low_2) / 2
    scaled_N2 = (plane_N2 - centre_2) / np.where(half_2 > 0, half_2, 1.0)
    placed_N2: NDArray[np.float64] = np.clip(scaled_N2, -1, 1)
    return placed_N2


class ItemMap:
    """The map of a recommender's items. Items without a vector are not on it."""

    def __init__(self, recommender: Recommender, n_fitted: int = 2000) -> None:
        catalogue = recommender.catalogue
        placed = np.asarray(recommender.bundle.embeddings.vectors.any(axis=1))
        popular = [
            catalogue.index_of(row[columns.ITEM_ID])
            for row in recommender.popular_items(len(catalogue)).as_records()
        ]
        self._popular = [index for index in popular if placed[index]]
        unit_NE = recommender.bundle.embeddings.unit_vectors()
        fitted = np.array(self._popular[:n_fitted], dtype=np.intp)
        self._plane_N2 = principal_plane(unit_NE, fitted) if len(fitted) else unit_NE[:, :2]
        self._placed = placed
        self._catalogue = catalogue
        genres = catalogue.table.get(columns.GENRES)
        self._genres = [] if genres is None else genres.fillna("").astype(str).tolist()

    def most_popular(self, k: int) -> list[dict[str, Any]]:
        """The k most watched items and where they lie."""
        return self._places(self._popular[:k])

    def places(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """Where some items lie; those that lie nowhere are left out."""
        return self._places(index for index in indices if self._placed[index])

    def _places(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        rounded = self._plane_N2.round(4)
        ids, titles = self._catalogue.ids.tolist(), self._catalogue.titles
        return [
            {
                columns.ITEM_ID: ids[index],
                columns.TITLE: titles[index],
                "x": float(rounded[index, 0]),
                "y": float(rounded[index, 1]),
                "genre": self._genres[index].partition("|")[0] if self._genres else "",
            }
            for index in indices
        ]
