"""How fast ranks and metrics come out of scores, beside `implicit.evaluation`.

    python benchmarks/evaluation.py [--users 2000 --items 59047 --factors 1 64]

Both get the same random factors, histories and targets, one target per user, and give the same
NDCG@10, which is checked. With one factor, nearly all of the time goes into ranking; with 64, as
models have them, the matrix product that makes the scores comes on top. `scores` is how long that
product takes alone; the last column is the ratio with it taken off both.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
from implicit.cpu.matrix_factorization_base import MatrixFactorizationBase
from implicit.evaluation import ranking_metrics_at_k
from numpy.typing import NDArray

from recsys.evaluation import rank
from recsys.evaluation.metrics import mean_metrics

HISTORY = 150
REPEATS = 10
BATCH_SIZE = 256


class Factors(MatrixFactorizationBase):
    """Random factors, as implicit's models have them, and as ours are asked."""

    def __init__(self, n_users: int, n_items: int, factors: int) -> None:
        super().__init__(num_threads=0)
        rng = np.random.default_rng(0)
        self.user_factors = rng.standard_normal((n_users, factors), dtype=np.float32)
        self.item_factors = rng.standard_normal((n_items, factors), dtype=np.float32)
        self.asked = 0
        # Memory that is new to a process costs more than the product that is written into it.
        self.scores = np.empty((BATCH_SIZE, n_items), dtype=np.float32)

    def fit(self, *_arguments: object, **_settings: object) -> None: ...

    def save(self, *_arguments: object) -> None: ...

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        start, self.asked = self.asked, self.asked + len(histories)
        scores = self.scores[: len(histories)]
        return np.matmul(self.user_factors[start : self.asked], self.item_factors.T, out=scores)


def best_of(*works: Callable[[], float]) -> list[tuple[float, float]]:
    """The result of each work, and the least seconds that it took; they take turns."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS):
        results = []
        for work, taken in zip(works, seconds, strict=True):
            start = time.perf_counter()
            results.append(work())
            taken.append(time.perf_counter() - start)
    return list(zip(results, map(min, seconds), strict=True))


def measure(n_users: int, n_items: int, factors: int) -> None:
    model = Factors(n_users, n_items, factors)
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, n_items - HISTORY, n_users)[:, None] + np.arange(HISTORY + 1)
    seen, targets = list(drawn[:, :-1].astype(np.int32)), drawn[:, -1].astype(np.int32)
    train, test = (
        sp.csr_matrix((np.ones(items.size, np.float32), items.ravel(), offsets), (n_users, n_items))
        for items, offsets in (
            (drawn[:, :-1], np.arange(n_users + 1) * HISTORY),
            (drawn[:, -1:], np.arange(n_users + 1)),
        )
    )

    def ours() -> float:
        model.asked = 0
        return mean_metrics(rank(model, seen, targets, batch_size=BATCH_SIZE).ranks, [10])[
            "ndcg_at_10"
        ]

    def peer() -> float:
        return float(ranking_metrics_at_k(model, train, test, K=10, show_progress=False)["ndcg"])

    def scores_alone() -> float:
        model.asked = 0
        for start in range(0, n_users, BATCH_SIZE):
            model.score(seen[start : start + BATCH_SIZE])
        return 0.0

    rank(Factors(8, n_items, factors), seen[:8], targets[:8])  # compile
    (ndcg, seconds), (peer_ndcg, peer_seconds), (_, product) = best_of(ours, peer, scores_alone)
    if not np.isclose(ndcg, peer_ndcg, rtol=1e-4, atol=1e-7):
        raise SystemExit(f"NDCG@10 is {ndcg}, but {peer_ndcg} by implicit: they do not agree")
    print(
        f"{factors:>7} {product:>10.2f} {seconds:>8.2f} {peer_seconds:>10.2f} "
        f"{peer_seconds / seconds:>6.1f} {(peer_seconds - product) / (seconds - product):>13.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--items", type=int, default=59_047)
    parser.add_argument("--factors", type=int, nargs="+", default=(1, 64))
    arguments = parser.parse_args()
    print(
        f"{arguments.users:,} users × {arguments.items:,} items, {HISTORY} watched by each; ",
        end="",
    )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start; seconds")
    print(
        f"{'factors':>7} {'scores':>10} {'ours':>8} {'implicit':>10} {'ratio':>6} "
        f"{'less scores':>13}",
        flush=True,
    )
    for factors in arguments.factors:
        measure(arguments.users, arguments.items, factors)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process {peak:.2f} GiB")


if __name__ == "__main__":
    main()
