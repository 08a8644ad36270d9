"""How fast ranks and metrics come out of a model, beside `implicit.evaluation`.

    python benchmarks/evaluation.py [--users 2000 --items 59047 --factors 1 16 64]
    python benchmarks/evaluation.py --alone --users 160000 --factors 64

Both get the same random factors, histories and targets, one target per user, and give the same
NDCG@10, which is checked. Both multiply the factors themselves: nothing is taken off. Ranks of
targets are spread evenly over the orders of magnitude, as those of a good model are. Ours is asked
three things: for the rank of every target; for that and lists of ten, as `evaluate` asks; and for
ranks within ten, which is as much as implicit tells. `product` is how long the scores alone take,
made in the same blocks and thrown away. Times are CPU seconds of the process over all threads, of
which other work on the machine takes nothing away; the last ratio is of seconds on the clock.
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
from recsys.evaluation.metrics import mean_metrics
from recsys.evaluation.ranking import ITEM_BLOCK as ITEMS
from recsys.evaluation.ranking import VECTOR_BATCH as HISTORIES

HISTORY = 150
"""Watches of each user: the mean of MovieLens-25M."""
REPEATS = 5


class Factors(MatrixFactorizationBase):
    """Random factors, as implicit's models have them, and as ours are asked."""

    def __init__(self, n_users: int, n_items: int, factors: int) -> None:
        super().__init__(num_threads=0)
        rng = np.random.default_rng(0)
        self.user_factors = rng.standard_normal((n_users, factors), dtype=np.float32)
        self.item_factors = rng.standard_normal((n_items, factors), dtype=np.float32)
        self.asked = 0

    def fit(self, *_arguments: object, **_settings: object) -> None: ...

    def save(self, *_arguments: object) -> None: ...

    @property
    def item_vectors(self) -> NDArray[np.float32]:
        return self.item_factors

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        start, self.asked = self.asked, self.asked + len(histories)
        return self.user_factors[start : self.asked]

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        return self.user_vectors(histories) @ self.item_factors.T


def histories_and_targets(
    model: Factors,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """What each user watched, [n, HISTORY], and a target at a rank that is drawn, [n]."""
    rng = np.random.default_rng(1)
    n_items, n = len(model.item_factors), len(model.user_factors)
    seen = np.empty((n, HISTORY), dtype=np.int32)
    targets = np.empty(n, dtype=np.int32)
    for start in range(0, n, 256):
        scores = model.user_factors[start : start + 256] @ model.item_factors.T
        for user, row in enumerate(scores, start):
            seen[user] = rng.integers(0, n_items - HISTORY) + np.arange(HISTORY)
            row[seen[user]] = -np.inf
            place = int((n_items - HISTORY) ** rng.random()) - 1
            targets[user] = np.argpartition(-row, place)[place]
    return seen, targets


Timed = tuple[float, float, float]
"""The result of some work, and the least CPU seconds and seconds on the clock that it took."""


def best_of(works: dict[str, Callable[[], float]], repeats: int) -> dict[str, Timed]:
    """Let all works take turns."""
    found: dict[str, Timed] = {}
    for _ in range(repeats):
        for name, work in works.items():
            cpu, clock = time.process_time(), time.perf_counter()
            result = work()
            took = time.process_time() - cpu, time.perf_counter() - clock
            _, *before = found.get(name, (result, *took))
            found[name] = (result, min(before[0], took[0]), min(before[1], took[1]))
    return found


def matrix(items: NDArray[np.int32], n_items: int) -> sp.csr_matrix:
    n, width = items.shape
    ones = np.ones(items.size, np.float32)
    return sp.csr_matrix((ones, items.ravel(), np.arange(n + 1) * width), (n, n_items))


def blocks(model: Factors) -> Iterator[NDArray[np.float32]]:
    for user in range(0, len(model.user_factors), HISTORIES):
        for item in range(0, len(model.item_factors), ITEMS):
            yield (
                model.user_factors[user : user + HISTORIES]
                @ model.item_factors[item : item + ITEMS].T
            )


def measure(n_users: int, n_items: int, factors: int) -> None:
    model = Factors(n_users, n_items, factors)
    seen, targets = histories_and_targets(model)
    histories = list(seen)
    train, test = matrix(seen, n_items), matrix(targets[:, None], n_items)

    def ours(k: int = 0, within: int | None = None) -> float:
        model.asked = 0
        ranks = rank(model, histories, targets, k, max_rank=within).ranks
        return mean_metrics(ranks, [10])["ndcg_at_10"]

    def peer() -> float:
        return float(ranking_metrics_at_k(model, train, test, K=10, show_progress=False)["ndcg"])

    def product() -> float:
        return float(sum(0.0 for _ in blocks(model)))

    rank(Factors(8, n_items, factors), histories[:8], targets[:8], 10)  # compile
    taken = best_of(
        {
            "product": product,
            "ranks": ours,
            "lists": lambda: ours(k=10),
            "within": lambda: ours(within=10),
            "implicit": peer,
        },
        REPEATS,
    )
    ndcg = [taken[name][0] for name in ("ranks", "lists", "within", "implicit")]
    if not np.allclose(ndcg, ndcg[-1], rtol=1e-4, atol=1e-7):
        raise SystemExit(f"NDCG@10 is {ndcg[:-1]}, but {ndcg[-1]} by implicit: they do not agree")
    cpu = {name: seconds for name, (_, seconds, _) in taken.items()}
    ratios = [cpu["implicit"] / cpu[name] for name in ("ranks", "lists", "within")]
    print(f"{factors:>7}", *(f"{seconds:>8.3f}" for seconds in cpu.values()), end=" ")
    print(*(f"{ratio:>8.1f}" for ratio in ratios), end=" ")
    print(f"{taken['implicit'][2] / taken['within'][2]:>8.1f}", flush=True)


def run_alone(n_users: int, n_items: int, factors: int) -> None:
    """Rank and list once, and tell how much memory that took on top of what it was given."""
    model = Factors(n_users, n_items, factors)
    start = np.random.default_rng(1).integers(0, n_items - HISTORY - 1, n_users)
    watches = (start[:, None] + np.arange(HISTORY + 1)).astype(np.int32)
    rank(Factors(8, n_items, factors), list(watches[:8, 1:]), watches[:8, 0], 10)  # compile
    given = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock, cpu = time.perf_counter(), time.process_time()
    ranking = rank(model, list(watches[:, 1:]), watches[:, 0].copy(), 10)
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{n_users:,} users ranked and listed in {clock:.1f} s ({cpu:.1f} s of CPU time)")
    print(f"NDCG@10 {mean_metrics(ranking.ranks, [10])['ndcg_at_10']:.6f}; peak memory ", end="")
    print(f"{peak / 2**10:,.0f} MiB, {(peak - given) / 2**10:,.0f} MiB of it while ranking")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--items", type=int, default=59_047)
    parser.add_argument("--factors", type=int, nargs="+", default=(1, 16, 64))
    parser.add_argument("--alone", action="store_true", help="without the peer; tells the memory")
    arguments = parser.parse_args()
    print(
        f"{arguments.users:,} users × {arguments.items:,} items, {HISTORY} watched by each; ",
        end="",
    )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start")
    if not arguments.alone:
        print(f"{'':>7} {'CPU seconds':^44} {'implicit over':^26} {'on the':>8}")
        names = ("product", "ranks", "lists", "within", "implicit", "ranks", "lists", "within")
        print(f"{'factors':>7}", *(f"{name:>8}" for name in names), f"{'clock':>8}", flush=True)
    for factors in arguments.factors:
        (run_alone if arguments.alone else measure)(arguments.users, arguments.items, factors)


if __name__ == "__main__":
    main()
