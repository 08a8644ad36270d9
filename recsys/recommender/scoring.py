"""Scores of all items: the session model's, combined with the embeddings and the popularity.

Shapes: B histories, N items, D query vector of the session model, E embedding, P candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.config import available_threads
from recsys.cooccurrence import top_k
from recsys.embeddings import ItemEmbeddings
from recsys.embeddings.neighbours import scale_rows
from recsys.errors import QueryError
from recsys.forks import lazy
from recsys.recommender.catalogue import Floats, Indices
from recsys.recommender.filters import RecommendOptions
from recsys.recommender.inverted_file import Clusters, InvertedFile
from recsys.sessions import NumpySessionModel, Weights
from recsys.sessions.numpy_model import log_sum_exp
from recsys.vocabulary import Vocabulary

Histories: TypeAlias = Sequence[NDArray[np.integer]]
"""Item indices, oldest first."""

SINGLE_ITEM_WEIGHT = 0.2
"""Default weight of the embeddings after a single interaction; it is zero for longer histories.
See docs/benchmarks/serving.md for the measurements."""

RECENT_ITEMS = 10
"""Number of latest interactions that the embeddings' score takes into account."""

LOGIT_SCALE = np.float32(10.0)
"""Factor that converts cosines to log-probabilities."""

_CANDIDATES_PER_ITEM = 10
"""Candidates for each item of a diversified result."""

_ENCODE_BATCH = 256
_SCORES_PER_BATCH = 2_000_000
"""Scores that each thread computes at once; few enough to fit into the CPU cache."""

_T = TypeVar("_T")


class RankedItems(NamedTuple):
    """The recommended items in order, for one history after another."""

    row: Indices
    """Index of the history."""
    item: Indices
    """Index of the item."""
    score: Floats
    probability: Floats


class ItemScorer:
    """Scores and ranks items by the embeddings and the session model of a bundle."""

    def __init__(
        self,
        embeddings: ItemEmbeddings,
        weights: Weights,
        clusters: Clusters | None = None,
    ) -> None:
        """With `clusters`, `rank_next` and `rank_batch` do not score all items."""
        self.embeddings = embeddings
        self.model = model = NumpySessionModel(weights)
        self._inverted_file: InvertedFile | None = None
        if clusters is not None:  # scores are weighted sums of these features
            columns = model.item_bias_N[:, None], model.log_popularity_N[:, None]
            features = model.item_embeddings_ND, *columns, embeddings.unit_vectors()
            self._inverted_file = InvertedFile(features, clusters)

    @property
    def items(self) -> Vocabulary:
        """The items that are scored."""
        return self.embeddings.items

    @lazy
    def unit_vectors(self) -> Floats:
        """The embeddings scaled to length one; zero vectors stay zero, [N, E]."""
        return self.embeddings.unit_vectors()

    @lazy
    def has_vector(self) -> NDArray[np.bool_]:
        """The items with a non-zero embedding, [N]."""
        return np.asarray(self.embeddings.vectors.any(axis=1))

    def rank_next(
        self, query_D: Floats | None, history: NDArray[np.integer], options: RecommendOptions
    ) -> RankedItems:
        """`rank` for one history, from the session model's query vector.

        Args:
            query_D: The query vector. None for an empty history.
            history: The items of the history.
            options: Number of items, filters and weights.
        """
        if query_D is None or self._inverted_file is None:
            return self.rank(self.model.logits(query_D)[None], [history], options)
        return self._search(self._inverted_file, query_D, history, options)

    def _search(
        self,
        inverted_file: InvertedFile,
        query_D: Floats,
        history: NDArray[np.integer],
        options: RecommendOptions,
    ) -> RankedItems:
        """`rank` for one history, by clusters."""
        model, seen = self.model, np.unique(history)
        excluded = seen if self._excludes_seen(options) else seen[:0]
        usable_N = np.ones(model.n_items, dtype=np.bool_)
        usable_N[excluded] = False
        if options.allowed is not None:
            usable_N &= options.allowed
        k = _n_candidates(options.k) if options.diversity else options.k
        logit_query_C = np.append(query_D, np.float32(1.0))
        impossible = seen[:0] if model.repeats else seen
        found = by_logit = inverted_file.search(logit_query_C, k, usable_N, impossible)
        query_C = self._weighted_query(logit_query_C, history, options)
        if query_C is not None:
            found = inverted_file.search(query_C, k, usable_N, excluded)
        item, score = found.item, found.score
        if options.diversity:
            selected = self._diversify(item, score, options)
            item, score = item[selected], score[selected]
        logit = score
        if query_C is not None:
            logit = model.item_embeddings_ND[item] @ query_D + model.item_bias_N[item]
        return RankedItems(
            np.zeros_like(item),
            item,
            np.exp(score - np.float32(found.log_z)),
            np.exp(logit - np.float32(by_logit.log_z)),
        )

    def _weighted_query(
        self, logit_query_C: Floats, history: NDArray[np.integer], options: RecommendOptions
    ) -> Floats | None:
        """The weight of each feature in the scores; None if the scores are the logits."""
        weight = _embedding_weights([history], options)
        if options.popularity_weight == 1.0 and not weight.any():
            return None
        popularity = np.array([options.popularity_weight - 1.0], dtype=np.float32)
        mean_E = LOGIT_SCALE * weight * self._mean_unit_vectors([history])[0]
        return np.concatenate([(1 - weight) * logit_query_C, popularity, mean_E])

    def rank(
        self, logits_BN: Floats, histories: Histories, options: RecommendOptions
    ) -> RankedItems:
        """Rank the items.

        Args:
            logits_BN: Logits of the session model; overwritten.
            histories: The items of each row's history.
            options: Number of items, filters and weights.
        """
        scores_BN, score_log_z_B1, log_z_B1 = self.scores(logits_BN, histories, options)
        allowed_BN = scores_BN
        if options.allowed is not None:
            allowed_BN = np.where(options.allowed, scores_BN, -np.inf)
        if options.diversity:
            selected = [self.diverse_items(scores_N, options) for scores_N in allowed_BN]
            row = np.repeat(np.arange(len(selected)), [len(items) for items in selected])
            item = np.concatenate(selected)
        else:
            row, item = top_k(allowed_BN, options.k)
        return RankedItems(
            row,
            item,
            np.exp(scores_BN[row, item] - score_log_z_B1[row, 0]),
            np.exp(logits_BN[row, item] - log_z_B1[row, 0]),
        )

    def rank_batch(
        self, query_BD: Floats, histories: Histories, options: RecommendOptions
    ) -> RankedItems:
        """`rank` for many histories, in parallel, from the session model's query vectors."""
        started_B = np.array([len(history) > 0 for history in histories], dtype=np.bool_)
        size = max(16, _SCORES_PER_BATCH // self.model.n_items)

        def rank(start: int) -> RankedItems:
            rows = slice(start, start + size)
            logits_BN = self.model.query_logits(query_BD[rows], started_B[rows])
            part = self.rank(logits_BN, histories[rows], options)
            return part._replace(row=part.row + start)

        def search(row: int) -> RankedItems:
            query_D = query_BD[row] if started_B[row] else None
            part = self.rank_next(query_D, histories[row], options)
            return part._replace(row=part.row + row)

        dtypes = (np.int64, np.int64, np.float32, np.float32)
        empty = RankedItems._make(np.empty(0, dtype) for dtype in dtypes)
        if self._inverted_file is None:
            parts = _parallel_map(rank, range(0, len(histories), size))
        else:
            parts = _parallel_map(search, range(len(histories)))
        return RankedItems._make(map(np.concatenate, zip(empty, *parts, strict=True)))

    def encode_batch(self, histories: Histories) -> Floats:
        """The query vector after each history, in parallel, [B, D]; zero for empty histories."""
        dim = self.model.item_embeddings_ND.shape[1]

        def encode(start: int) -> Floats:
            batch = histories[start : start + _ENCODE_BATCH]
            query_BD = np.zeros((len(batch), dim), np.float32)
            rows = [row for row, history in enumerate(batch) if len(history)]
            if rows:
                query_BD[rows] = self.model.encode_batch([batch[row] for row in rows])
            return query_BD

        parts = _parallel_map(encode, range(0, len(histories), _ENCODE_BATCH))
        return np.concatenate([np.empty((0, dim), np.float32), *parts])

    @property
    def repeats(self) -> bool:
        """Whether items of the history may be recommended by default."""
        return self.model.repeats

    def score(self, histories: Histories) -> Floats:
        """Scores of all items by which `Recommender.next_items` ranks them by default, [B, N].

        Evaluation ranks these, so that metrics are those of the answers.
        """
        started_B = np.array([len(history) > 0 for history in histories], dtype=np.bool_)
        logits_BN = self.model.query_logits(self.encode_batch(histories), started_B)
        return self.scores(logits_BN, histories, RecommendOptions(1))[0]

    def scores(
        self, logits_BN: Floats, histories: Histories, options: RecommendOptions
    ) -> tuple[Floats, Floats, Floats]:
        """Scores of all items, minus infinity for those left out. Overwrites the logits.

        Returns:
            Unnormalised log-scores, [B, N], their log-normalisers, [B, 1], and those of the logits.

        Raises:
            QueryError: Items of the history are requested of a model that does not repeat items.
        """
        seen = np.empty(0, np.int64), np.empty(0, np.int32)
        if self._excludes_seen(options):
            rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
            seen = rows, np.concatenate(histories)
        if not self.model.repeats:
            logits_BN[seen] = -np.inf
        log_z_B1 = log_sum_exp(logits_BN)
        logits_BN[seen] = -np.inf
        weight_B = _embedding_weights(histories, options)
        if options.popularity_weight == 1.0 and not weight_B.any():
            return logits_BN, log_z_B1, log_z_B1
        scores_BN = logits_BN - log_z_B1
        scores_BN[seen] = 0.0  # minus infinity times zero is not a number
        scores_BN *= 1.0 - weight_B[:, None]
        (rows,) = weight_B.nonzero()
        if len(rows):
            cosine = self._history_cosine([histories[row] for row in rows.tolist()])
            scores_BN[rows] += LOGIT_SCALE * weight_B[rows, None] * cosine
        scores_BN -= np.float32(1.0 - options.popularity_weight) * self.model.log_popularity_N
        scores_BN[seen] = -np.inf
        score_log_z_B1 = log_sum_exp(scores_BN)
        if options.popularity_weight == 1.0:
            score_log_z_B1[weight_B == 0.0] = 0.0  # the score is the probability
        return scores_BN, score_log_z_B1, log_z_B1

    def _excludes_seen(self, options: RecommendOptions) -> bool:
        excludes_seen = not self.model.repeats
        if options.exclude_seen is not None:
            excludes_seen = options.exclude_seen
        if not (excludes_seen or self.model.repeats):
            raise QueryError(
                "exclude_seen is False: this model was trained on data in which no item repeats, "
                "and has no probability for items of the history; leave exclude_seen out"
            )
        return excludes_seen

    def _history_cosine(self, histories: Histories) -> Floats:
        """Cosine of each item to the mean unit vector of the latest interactions, [B, N]."""
        cosine_BN: Floats = self._mean_unit_vectors(histories) @ self.unit_vectors.T
        return cosine_BN

    def _mean_unit_vectors(self, histories: Histories) -> Floats:
        """The direction of the mean unit vector of the latest interactions, [B, E]."""
        vectors_NE = self.embeddings.vectors
        recent = (scale_rows(vectors_NE[items[-RECENT_ITEMS:]], "cosine") for items in histories)
        return scale_rows(np.stack([unit_LE.sum(axis=0) for unit_LE in recent]), "cosine")

    def diverse_items(self, scores_N: Floats, options: RecommendOptions) -> Indices:
        """Items with high scores that are dissimilar to each other, in order of selection, [k]."""
        _, candidates_P = top_k(scores_N[None], _n_candidates(options.k))
        return candidates_P[self._diversify(candidates_P, scores_N[candidates_P], options)]

    def _diversify(self, items_P: Indices, scores_P: Floats, options: RecommendOptions) -> Indices:
        unit_PE = scale_rows(self.embeddings.vectors[items_P], "cosine")
        return diversify(_min_max_scale(scores_P), unit_PE, options.k, options.diversity)


def diversify(relevance_P: Floats, unit_PE: Floats, k: int, diversity: float) -> Indices:
    """Select k candidates by maximal marginal relevance (Carbonell & Goldstein 1998).

    The next candidate is the one that maximises (1 − diversity) · relevance − diversity · (highest
    cosine to a selected candidate).

    Args:
        relevance_P: Relevance of each candidate, from 0 to 1.
        unit_PE: Unit vectors of the candidates; zero vectors are similar to none.
        k: Number of candidates to select.
        diversity: 0 keeps the order of relevance; 1 uses only the cosines.

    Returns:
        Positions of the selected candidates, in order, [min(k, P)].

    Example:
        >>> vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
        >>> relevance = np.array([1.0, 0.9, 0.5], dtype=np.float32)
        >>> diversify(relevance, vectors, k=3, diversity=0.5).tolist()
        [0, 2, 1]
    """
    selected: list[int] = []
    max_cosine_P = np.zeros_like(relevance_P)
    weighted_P = (1.0 - diversity) * relevance_P
    for _ in range(min(k, len(relevance_P))):
        best = int(np.argmax(weighted_P - diversity * max_cosine_P))
        selected.append(best)
        weighted_P[best] = -np.inf
        max_cosine_P = np.maximum(max_cosine_P, unit_PE @ unit_PE[best])
    return np.array(selected, dtype=np.int64)


def _n_candidates(k: int) -> int:
    return max(_CANDIDATES_PER_ITEM * k, 100)


def _embedding_weights(histories: Histories, options: RecommendOptions) -> Floats:
    """The weight of the embeddings for each history, [B]."""
    if options.embedding_weight is not None:
        return np.full(len(histories), options.embedding_weight, dtype=np.float32)
    is_single = [len(history) == 1 for history in histories]
    return np.float32(SINGLE_ITEM_WEIGHT) * np.array(is_single, dtype=np.float32)


def _min_max_scale(x_P: Floats) -> Floats:
    spread = np.ptp(x_P) if len(x_P) else 0.0
    scaled_P: Floats = (x_P - x_P.min()) / spread if spread > 0 else np.ones_like(x_P)
    return scaled_P


def _parallel_map(function: Callable[[int], _T], starts: range) -> list[_T]:
    if len(starts) <= 1:
        return [function(start) for start in starts]
    with ThreadPoolExecutor(min(available_threads(), len(starts))) as pool:
        return list(pool.map(function, starts))
