"""Similar items, including those of new items and items without an embedding.

Shapes: N items, E embedding.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from recsys import columns
from recsys.arguments import shown, to_number
from recsys.cooccurrence import top_k
from recsys.embeddings import fold_in
from recsys.errors import QueryError
from recsys.recommender.bundle import Bundle
from recsys.recommender.catalogue import Catalogue, Floats, Indices, Item, item_list
from recsys.recommender.filters import RecommendOptions
from recsys.recommender.scoring import ItemScorer


def similar_to(
    bundle: Bundle, scorer: ItemScorer, catalogue: Catalogue, item: int, options: RecommendOptions
) -> tuple[Indices, Floats]:
    """The nearest items of an item, and their cosines.

    An item without an embedding is represented by the mean vector of its genres.
    """
    stored = options.k <= bundle.neighbour_index.shape[1]
    if stored and options.allowed is None and not options.diversity:
        index = bundle.neighbour_index[item, : options.k]
        if index[0] >= 0:  # an item without an embedding has no stored neighbours
            n = np.searchsorted(index < 0, 1)
            return index[:n].astype(np.int64), bundle.neighbour_cosine[item, :n]
    vector_E = bundle.embeddings.vectors[item]
    if not vector_E.any():
        vector_E = _genre_vector(scorer, catalogue, catalogue.genres[item])
    return nearest_to(scorer, vector_E, options, exclude=item)


def nearest_to(
    scorer: ItemScorer, vector_E: Floats, options: RecommendOptions, exclude: int | None = None
) -> tuple[Indices, Floats]:
    """The items nearest to a vector by cosine, and their cosines. Empty for a zero vector."""
    length = np.linalg.norm(vector_E)
    if not length:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    cosine_N: Floats = scorer.unit_vectors @ (vector_E / length).astype(np.float32)
    cosine_N[~scorer.has_vector] = -np.inf
    if exclude is not None:
        cosine_N[exclude] = -np.inf
    if options.allowed is not None:
        cosine_N[~options.allowed] = -np.inf
    if options.diversity:
        index = scorer.diverse_items(cosine_N, options)
    else:
        _, index = top_k(cosine_N[None], options.k)
    return index, cosine_N[index]


def new_item_vector(
    scorer: ItemScorer,
    catalogue: Catalogue,
    co_counts: Mapping[Item, float],
    genres: Sequence[str],
) -> Floats:
    """The vector of an item that is not in the catalogue, from its counts or its genres, [E]."""
    if isinstance(co_counts, Mapping) and not co_counts:
        names = [str(genre) for genre in item_list("genres", genres)]
        if not names:
            raise QueryError("co_counts and genres are both empty: pass one of them")
        return _genre_vector(scorer, catalogue, names)
    from scipy.sparse import csr_array

    counts = np.zeros((1, len(catalogue)), dtype=np.float64)
    if not isinstance(co_counts, Mapping):
        raise QueryError(f"co_counts is a {type(co_counts).__name__}: pass a mapping from items")
    for item, count in co_counts.items():
        n_users = to_number(f"co_counts[{shown(item)}]", count, 0, sys.maxsize, QueryError)
        counts[0, catalogue.index_of(item)] = n_users
    vector_E: Floats = fold_in(scorer.embeddings.vectors, csr_array(counts))[0]
    return vector_E


def _genre_vector(scorer: ItemScorer, catalogue: Catalogue, genres: Sequence[str]) -> Floats:
    """The mean of all unit vectors, weighted by the squared number of shared genres, [E]."""
    if not genres:
        return np.zeros(scorer.embeddings.dim, np.float32)
    masks = [catalogue.attribute_mask(columns.GENRES, genre) for genre in genres]
    weight_N = np.sum(masks, axis=0, dtype=np.float32) ** 2
    vector_E: Floats = weight_N @ scorer.unit_vectors
    return vector_E
