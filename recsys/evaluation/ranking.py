"""Rank targets among all items of the catalogue, and list the best items.

Shapes: B histories, D dimensions, N items.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from recsys.arguments import require, to_array, to_histories, to_int, to_number
from recsys.config import available_threads
from recsys.errors import DataError
from recsys.evaluation.streaming_rank import RankAccumulator
from recsys.vocabulary import Vocabulary

Floats = NDArray[np.float32]
ItemSequences = Sequence[NDArray[np.int32]]
"""Item indices, oldest first, one array per history."""

SCORE_BATCH = 256  # histories scored at once: 60 MB of scores for 59,000 items
VECTOR_BATCH = 1024  # histories of a DotProductScorer encoded at once, per thread
ITEM_BLOCK = 256  # items scored at once, so that the 1 MB of scores fits a core's cache
LATENCY_SAMPLES = 100
MAX_K = 1_000_000  # recommended items per history

_blas = cache(ThreadpoolController)  # finding the loaded libraries takes milliseconds


@runtime_checkable
class Scorer(Protocol):
    """A model that can be evaluated: it scores every item as the next one."""

    def score(self, histories: ItemSequences) -> Floats:
        """Return the scores of all items, higher is better, in a new array, [B, N]."""


@runtime_checkable
class DotProductScorer(Protocol):
    """A scorer for which `score` is `user_vectors @ item_vectors.T`; it is ranked faster."""

    @property
    def item_vectors(self) -> Floats:
        """One vector per item, biases included, [N, D]."""

    def user_vectors(self, histories: ItemSequences) -> Floats:
        """Return one vector per history, [B, D]."""


@dataclass(frozen=True, eq=False)
class CatalogueAdapter:
    """Scores the items of one catalogue with a model trained on another.

    Items that the model does not know are dropped from histories and score minus infinity, as
    all items do after a history of such items.
    """

    model: Scorer
    model_items: Vocabulary
    data_items: Vocabulary

    @property
    def repeats(self) -> bool | None:
        """Whether the model may recommend items of the history; None if it does not say."""
        return getattr(self.model, "repeats", None)

    def score(self, histories: ItemSequences) -> Floats:
        """Return the scores of all items of the data, [B, N]."""
        to_model = self.model_items.indices(self.data_items.ids)
        known = [to_model[history][to_model[history] >= 0] for history in histories]
        rows = np.flatnonzero([len(history) for history in known])
        scores = np.full((len(histories), len(self.data_items)), -np.inf, dtype=np.float32)
        if len(rows):
            shared = np.flatnonzero(to_model >= 0)
            model_scores = self.model.score([known[row] for row in rows])
            scores[np.ix_(rows, shared)] = model_scores[:, to_model[shared]]
        return scores


class Ranking(NamedTuple):
    """The result of `rank`."""

    ranks: NDArray[np.int64]
    """Rank of each target, from 1, [n]; all 1 if there are no targets."""
    recommended: NDArray[np.int32]
    """The best items, best first, [n, k]; −1 pads short lists."""


def rank(
    scorer: Scorer,
    histories: ItemSequences,
    targets: NDArray[np.int32] | None = None,
    k: int = 0,
    *,
    mask_seen: bool = True,
    max_rank: int | None = None,
    batch_size: int | None = None,
) -> Ranking:
    """Rank each target among the whole catalogue, and list the best items.

    Ties are broken by the lower item index, whatever the batch size; NaN counts as minus
    infinity. Memory is bounded by the scores of one batch; for a `DotProductScorer`, by the
    vectors of one batch and one block of scores per thread.

    Args:
        scorer: the model.
        histories: items before each target.
        targets: one item per history, [n]; None if only lists are wanted.
        k: length of the lists.
        mask_seen: leave out the items of the history, except the target itself.
        max_rank: report higher ranks as `max_rank` + 1, which suffices for metrics at
            `max_rank`. A `DotProductScorer` then computes far fewer scores, unless k > 0.
        batch_size: histories scored at once; by default, chosen by the kind of scorer.
    """
    require(Scorer, scorer=scorer)
    histories = to_histories("histories", histories)
    n = len(histories)
    k = to_int("k", k, 0, MAX_K)
    max_rank = None if max_rank is None else to_int("max_rank", max_rank)
    batch_size = None if batch_size is None else to_int("batch_size", batch_size)
    require(bool, mask_seen=mask_seen)
    if targets is not None:
        targets = to_array("targets", targets, "iu", n)
    targets = np.full(n, -1) if targets is None else targets
    targets = targets.astype(np.int32, copy=False)
    ranking = Ranking(np.empty(n, dtype=np.int64), np.empty((n, k), dtype=np.int32))
    n_threads = max(1, min(available_threads(), n))
    batch_size = batch_size or rows_per_batch(scorer, n)
    encode: Callable[[ItemSequences], Floats] = scorer.score
    accumulate: Callable[[Floats, RankAccumulator], None] = _accumulate_scores
    blas_threads = None
    if isinstance(scorer, DotProductScorer):
        vectors: NDArray[Any] = np.ascontiguousarray(scorer.item_vectors, dtype=np.float32)
        if _has_copies(vectors):
            # BLAS sums in an order that depends on the position in the matrix. Copies only tie if
            # sums are exact to the last bit of the rounded score.
            vectors = vectors.astype(np.float64)
        encode, accumulate = scorer.user_vectors, partial(accumulate_products, vectors)
        blas_threads = 1 if n_threads > 1 else None

    def rank_rows(batch: Floats, start: int, rows: slice) -> None:
        out = slice(start + rows.start, start + rows.stop)
        seen = histories[out] if mask_seen else [np.empty(0, np.int32)] * len(targets[out])
        accumulator = RankAccumulator(seen, targets[out], k, max_rank)
        accumulate(batch[rows], accumulator)
        ranking.ranks[out] = accumulator.ranks
        ranking.recommended[out] = accumulator.top

    blas_limit = _blas().limit(limits=blas_threads, user_api="blas")
    with ThreadPoolExecutor(n_threads) as pool, blas_limit:
        for start in range(0, n, batch_size):
            batch = encode(histories[start : start + batch_size])
            cuts = np.linspace(0, len(batch), n_threads + 1).astype(int).tolist()
            jobs = [pool.submit(rank_rows, batch, start, slice(*cut)) for cut in pairwise(cuts)]
            for job in jobs:
                job.result()
    return ranking


def rows_per_batch(scorer: Scorer, n: int) -> int:
    """How many of n histories `rank` scores at once by default."""
    if isinstance(scorer, DotProductScorer):
        return VECTOR_BATCH * max(1, min(available_threads(), n))
    return SCORE_BATCH


def measure_latency(
    answer: Callable[[NDArray[np.int32]], object], histories: ItemSequences, quantile: float = 0.95
) -> float:
    """Milliseconds that an answer takes, a quantile over `LATENCY_SAMPLES` histories."""
    require(Callable, answer=answer)
    require(Sequence, histories=histories)
    quantile = to_number("quantile", quantile, 0, 1)
    samples = histories[:LATENCY_SAMPLES]
    if not samples:
        raise DataError("no histories to measure the latency with")
    answer(samples[0])  # warm up: compilation and lazy loading do not count
    seconds = []
    for history in samples:
        start = time.perf_counter()
        answer(history)
        seconds.append(time.perf_counter() - start)
    return float(np.quantile(seconds, quantile) * 1000)


def accumulate_products(
    vectors_ND: NDArray[Any], users_BD: Floats, accumulator: RankAccumulator
) -> None:
    """Score histories by blocks of item vectors, as far as the accumulator needs it.

    Sums have the precision of the item vectors; scores are rounded to single precision.
    """
    users_BD = users_BD.astype(vectors_ND.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN ranks last
        _set_target_scores(vectors_ND, users_BD, accumulator)
        for first in range(0, len(vectors_ND), ITEM_BLOCK):
            block = vectors_ND[first : first + ITEM_BLOCK]
            scores = (users_BD @ block.T).astype(np.float32, copy=False)
            accumulator.update(scores, first, len(block))
            active = accumulator.prune()
            if active is not None:
                users_BD = users_BD[active]
                _set_target_scores(vectors_ND, users_BD, accumulator)


def _set_target_scores(
    vectors_ND: NDArray[Any], users_BD: NDArray[Any], accumulator: RankAccumulator
) -> None:
    vectors = vectors_ND[accumulator.active_targets]
    accumulator.set_target_scores(np.einsum("bd,bd->b", users_BD, vectors).astype(np.float32))


def _has_copies(vectors_ND: Floats) -> bool:
    """Whether two vectors are equal; with a very small probability, true if none are."""
    bits = (vectors_ND + np.float32(0)).view(np.uint32)  # there is no minus zero in the sum
    factors = np.random.default_rng(0).integers(2**63, size=bits.shape[1], dtype=np.uint64) | 1
    return len(np.unique(np.einsum("nd,d->n", bits, factors))) < len(bits)


def _accumulate_scores(scores_BN: Floats, accumulator: RankAccumulator) -> None:
    rows = np.arange(len(scores_BN))
    accumulator.set_target_scores(scores_BN[rows, accumulator.active_targets])
    accumulator.update(scores_BN, 0, scores_BN.shape[1])
