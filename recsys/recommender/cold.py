"""Items of which little or nothing is known: vectors from counts or from genres.

Shapes: N items, E dimensions of the embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recsys import columns
from recsys.cooccurrence import top_k
from recsys.embeddings import fold_in as best_vectors
from recsys.errors import QueryError
from recsys.recommender.arguments import items_of
from recsys.recommender.catalogue import Item
from recsys.recommender.ranking import Floats, Indices
from recsys.recommender.wishes import Wishes

if TYPE_CHECKING:
    from recsys.recommender.recommender import Recommender


def similar(rec: Recommender, item: int, wishes: Wishes) -> tuple[Indices, Floats]:
    """The nearest to an item of the catalogue, and their cosines."""
    bundle = rec.bundle
    if (
        wishes.allowed is None
        and not wishes.diversity
        and wishes.k <= bundle.neighbour_index.shape[1]
    ):
        index = bundle.neighbour_index[item, : wishes.k]
        if index[0] >= 0:  # its own row is looked up; an item without a vector has none
            n = np.searchsorted(index < 0, 1)
            return index[:n].astype(np.int64), bundle.neighbour_cosine[item, :n]
    vector_E = bundle.embeddings.vectors[item]
    if not vector_E.any():
        vector_E = _of_genres(rec, _genres_of(rec, item))
    return near(rec, vector_E, wishes, itself=item)


def near(
    rec: Recommender, vector_E: Floats, wishes: Wishes, itself: int | None = None
) -> tuple[Indices, Floats]:
    """The items nearest to a vector by cosine, and their cosines; to a zero vector none are."""
    length = np.linalg.norm(vector_E)
    if not length:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    unit_NE = rec.scoring.unit_vectors
    cosine_N: Floats = unit_NE @ (vector_E / length).astype(np.float32)
    cosine_N[~rec.scoring.has_vector] = -np.inf
    if itself is not None:
        cosine_N[itself] = -np.inf
    if wishes.allowed is not None:
        cosine_N[~wishes.allowed] = -np.inf
    if wishes.diversity:
        chosen = rec.scoring.unlike(cosine_N, wishes)
    else:
        _, chosen = top_k(cosine_N[None], wishes.k)
    return chosen, cosine_N[chosen]


def fold_in(rec: Recommender, co_counts: Mapping[Item, float], genres: Sequence[str]) -> Floats:
    """The vector of an item that is not in the catalogue, [E]."""
    import scipy.sparse as sp

    if not co_counts:
        named = [str(genre) for genre in items_of("genres", genres)]
        if not named:
            raise QueryError("nothing is known of the new item: pass co_counts, or genres")
        return _of_genres(rec, named)
    counts = np.zeros((1, len(rec.catalogue)), dtype=np.float64)
    for item, count in co_counts.items():
        if not np.isfinite(count) or count < 0:
            raise QueryError(f"co_counts[{item!r}] is {count!r}: it has to be a number of people")
        counts[0, rec.index_of(item)] = count
    vector_E: Floats = best_vectors(rec.bundle.embeddings.vectors, sp.csr_array(counts))[0]
    return vector_E


def _genres_of(rec: Recommender, item: int) -> list[str]:
    if columns.GENRES not in rec.catalogue.table:
        return []
    genres = rec.catalogue.table[columns.GENRES].iloc[item]
    return genres.split("|") if isinstance(genres, str) else []


def _of_genres(rec: Recommender, genres: Sequence[str]) -> Floats:
    """The mean of all unit vectors, each weighted by how many of the genres it shares, squared."""
    if not genres:
        return np.zeros(rec.bundle.embeddings.dim, np.float32)
    masks = [rec.catalogue.mask("genres", {columns.GENRES: genre}) for genre in genres]
    shared_N = np.sum(masks, axis=0, dtype=np.float32) ** 2
    vector_E: Floats = shared_N @ rec.scoring.unit_vectors
    return vector_E
