"""Time ranking and metrics, compared with `implicit.evaluation`.

    python benchmarks/evaluation.py [--users 2000 --items 59047 --factors 1 16 64]
    python benchmarks/evaluation.py --alone --users 160000 --factors 64

Both get the same random factors, histories and targets, one target per user, and must return the
same NDCG@10. Both multiply the factors themselves. The ranks of the targets are log-uniform. Three
tasks are timed: the rank of every target (`ranks`); ranks and lists of ten, as in `evaluate`
(`lists`); and ranks up to ten, which is all that implicit computes (`max 10`). `product` is the
computation of the scores alone, in the same blocks. Times are CPU seconds of the process over all
threads, which other processes do not affect much; the last ratio is of wall-clock seconds.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.sparse as sp
from implicit.cpu.matrix_factorization_base import MatrixFactorizationBase
from implicit.evaluation import ranking_metrics_at_k
from numpy.typing import NDArray

from recsys.evaluation import rank
from recsys.evaluation.metrics import ndcg
from recsys.evaluation.ranking import ITEM_BLOCK, VECTOR_BATCH

HISTORY = 150
"""Interactions per user: the mean of MovieLens-25M."""
REPEATS = 5


class Factors(MatrixFactorizationBase):
    """Random factors, for implicit and for `rank`."""

    def __init__(self, n_users: int, n_items: int, factors: int) -> None:
        super().__init__(num_threads=0)
        rng = np.random.default_rng(0)
        self.user_factors = rng.standard_normal((n_users, factors), dtype=np.float32)
        self.item_factors = rng.standard_normal((n_items, factors), dtype=np.float32)
        self.n_scored = 0

    def fit(self, *_arguments: object, **_settings: object) -> None: ...

    def save(self, *_arguments: object) -> None: ...

    @property
    def item_vectors(self) -> NDArray[np.float32]:
        return self.item_factors

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        start, self.n_scored = self.n_scored, self.n_scored + len(histories)
        return self.user_factors[start : self.n_scored]

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        return self.user_vectors(histories) @ self.item_factors.T


def histories_and_targets(model: Factors) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Draw a history for each user, [n, HISTORY], and a target with a log-uniform rank, [n]."""
    rng = np.random.default_rng(1)
    n_items, n = len(model.item_factors), len(model.user_factors)
    seen = np.empty((n, HISTORY), dtype=np.int32)
    targets = np.empty(n, dtype=np.int32)
    for start in range(0, n, 256):
        scores = model.user_factors[start : start + 256] @ model.item_factors.T
        for user, row in enumerate(scores, start):
            seen[user] = rng.integers(0, n_items - HISTORY) + np.arange(HISTORY)
            row[seen[user]] = -np.inf
            position = int((n_items - HISTORY) ** rng.random()) - 1
            targets[user] = np.argpartition(-row, position)[position]
    return seen, targets


Timed = tuple[float, float, float]
"""Result, fewest CPU seconds, fewest wall-clock seconds."""


def best_of(tasks: dict[str, Callable[[], float]], repeats: int) -> dict[str, Timed]:
    """Time the tasks in turn."""
    timed: dict[str, Timed] = {}
    for _ in range(repeats):
        for name, task in tasks.items():
            cpu, clock = time.process_time(), time.perf_counter()
            result = task()
            elapsed = time.process_time() - cpu, time.perf_counter() - clock
            _, *best = timed.get(name, (result, *elapsed))
            timed[name] = (result, min(best[0], elapsed[0]), min(best[1], elapsed[1]))
    return timed


def matrix(items: NDArray[np.int32], n_items: int) -> sp.csr_matrix:
    n, width = items.shape
    ones = np.ones(items.size, np.float32)
    return sp.csr_matrix((ones, items.ravel(), np.arange(n + 1) * width), (n, n_items))


def blocks(model: Factors) -> Iterator[NDArray[np.float32]]:
    for user in range(0, len(model.user_factors), VECTOR_BATCH):
        for item in range(0, len(model.item_factors), ITEM_BLOCK):
            yield (
                model.user_factors[user : user + VECTOR_BATCH]
                @ model.item_factors[item : item + ITEM_BLOCK].T
            )


def measure(n_users: int, n_items: int, factors: int) -> None:
    model = Factors(n_users, n_items, factors)
    seen, targets = histories_and_targets(model)
    histories = list(seen)
    train, test = matrix(seen, n_items), matrix(targets[:, None], n_items)

    def ours(k: int = 0, max_rank: int | None = None) -> float:
        model.n_scored = 0
        ranks = rank(model, histories, targets, k, max_rank=max_rank).ranks
        return float(ndcg(ranks, 10).mean())

    def peer() -> float:
        return float(ranking_metrics_at_k(model, train, test, K=10, show_progress=False)["ndcg"])

    def product() -> float:
        return float(sum(0.0 for _ in blocks(model)))

    rank(Factors(8, n_items, factors), histories[:8], targets[:8], 10)  # compile
    timed = best_of(
        {
            "product": product,
            "ranks": ours,
            "lists": lambda: ours(k=10),
            "max 10": lambda: ours(max_rank=10),
            "implicit": peer,
        },
        REPEATS,
    )
    values = [timed[name][0] for name in ("ranks", "lists", "max 10", "implicit")]
    if not np.allclose(values, values[-1], rtol=1e-4, atol=1e-7):
        raise SystemExit(f"NDCG@10 is {values[:-1]}, but {values[-1]} by implicit")
    cpu = {name: seconds for name, (_, seconds, _) in timed.items()}
    ratios = [cpu["implicit"] / cpu[name] for name in ("ranks", "lists", "max 10")]
    print(f"{factors:>7}", *(f"{seconds:>8.3f}" for seconds in cpu.values()), end=" ")
    print(*(f"{ratio:>8.1f}" for ratio in ratios), end=" ")
    print(f"{timed['implicit'][2] / timed['max 10'][2]:>8.1f}", flush=True)


def run_alone(n_users: int, n_items: int, factors: int) -> None:
    """Rank and list once; print the time and the memory in addition to that of the input."""
    model = Factors(n_users, n_items, factors)
    start = np.random.default_rng(1).integers(0, n_items - HISTORY - 1, n_users)
    interactions = (start[:, None] + np.arange(HISTORY + 1)).astype(np.int32)
    rank(
        Factors(8, n_items, factors), list(interactions[:8, 1:]), interactions[:8, 0], 10
    )  # compile
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock, cpu = time.perf_counter(), time.process_time()
    ranking = rank(model, list(interactions[:, 1:]), interactions[:, 0].copy(), 10)
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{n_users:,} users ranked and listed in {clock:.1f} s ({cpu:.1f} s of CPU time)")
    print(f"NDCG@10 {ndcg(ranking.ranks, 10).mean():.6f}; peak memory ", end="")
    print(f"{peak / 2**10:,.0f} MiB, {(peak - before) / 2**10:,.0f} MiB of it for ranking")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--items", type=int, default=59_047)
    parser.add_argument("--factors", type=int, nargs="+", default=(1, 16, 64))
    parser.add_argument("--alone", action="store_true", help="without implicit; prints the memory")
    arguments = parser.parse_args()
    print(
        f"{arguments.users:,} users × {arguments.items:,} items, {HISTORY} interactions each; ",
        end="",
    )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start")
    if not arguments.alone:
        print(f"{'':>7} {'CPU seconds':^44} {'implicit / recsys':^26} {'wall':>8}")
        names = ("product", "ranks", "lists", "max 10", "implicit", "ranks", "lists", "max 10")
        print(f"{'factors':>7}", *(f"{name:>8}" for name in names), f"{'clock':>8}", flush=True)
    for factors in arguments.factors:
        (run_alone if arguments.alone else measure)(arguments.users, arguments.items, factors)


if __name__ == "__main__":
    main()
