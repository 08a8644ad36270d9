"""Metrics of the baselines on MovieLens-1M.

    python benchmarks/baselines.py ../shared/data/ml-1m [--slow]

The source is a file or folder that `recsys.read_ratings` reads. The target is the last item of each
user; models are fitted to all earlier interactions. All items are ranked, except those in the
history. The first table has fixed configurations. In the second, the configuration is chosen on the
second-to-last item and the model is fitted again with it. `--slow` adds BPR and LMF, which take
minutes.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable

import numpy as np

from recsys import baselines
from recsys.baselines import BASELINES, FULL_HISTORY, Baseline, EASEConfig, FitInputs, ItemKNNConfig
from recsys.data import Interactions, leave_last_out, read_ratings
from recsys.data.splitters import TEST, TRAIN, Split
from recsys.evaluation import evaluate

LAST_FIVE = baselines.Recency(last=5, decay=0.8)
FIXED: dict[str, Callable[[Interactions], Baseline]] = {
    "popularity": baselines.fit_popularity,
    "item-knn, whole history": lambda interactions: baselines.fit_item_knn(
        interactions, ItemKNNConfig(n_neighbours=None, recency=FULL_HISTORY)
    ),
    "item-knn, 100 nearest, whole history": lambda interactions: baselines.fit_item_knn(
        interactions, ItemKNNConfig(n_neighbours=100, recency=FULL_HISTORY)
    ),
    "item-knn, last five, decay 0.8": lambda interactions: baselines.fit_item_knn(
        interactions, ItemKNNConfig(n_neighbours=None, recency=LAST_FIVE)
    ),
    "EASE, λ = 500": lambda interactions: baselines.fit_ease(
        interactions, EASEConfig(regularization=500.0)
    ),
    "Markov chain": baselines.fit_markov_chain,
}
QUICK = ("recent-popularity", "item-knn", "ease", "als")
SLOW = ("lmf", "bpr")


def hold_out_last(interactions: Interactions) -> Split:
    """The last item of each user is the target; all earlier ones are in train."""
    assignment = np.full(len(interactions), TRAIN, dtype=np.int8)
    assignment[interactions.user_offsets[1:][interactions.history_lengths > 1] - 1] = TEST
    return Split(interactions, assignment, "hold-out-last")


def show(name: str, model: Baseline, split: Split, seconds: float) -> None:
    metrics = evaluate(model, split).metrics
    print(
        f"{name:<38} {metrics['hit_rate_at_10']:>10.4f} {metrics['ndcg_at_10']:>8.4f} "
        f"{seconds:>8.1f}",
        flush=True,
    )


def print_tuned(interactions: Interactions, split: Split, names: tuple[str, ...]) -> None:
    earlier = leave_last_out(interactions)
    for name in names:
        fitted = baselines.fit_baseline(
            name,
            earlier.train,
            validate=lambda model: evaluate(model, earlier, "validation").metrics["ndcg_at_10"],
        )
        start = time.perf_counter()
        model = BASELINES[name].fit(FitInputs(split.train), fitted.config)
        show(name, model, split, time.perf_counter() - start)
        print(f"    {fitted.config}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", default="../shared/data/ml-1m")
    parser.add_argument("--slow", action="store_true", help="include BPR and LMF")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # missing timestamps
    interactions = read_ratings(arguments.source)
    split = hold_out_last(interactions)
    print(f"{interactions.n_users:,} users, {interactions.n_items:,} items, ", end="")
    print(f"{len(interactions):,} interactions; ", end="")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    print(f"{'model':<38} {'HitRate@10':>10} {'NDCG@10':>8} {'fit, s':>8}", flush=True)
    for name, fit in FIXED.items():
        start = time.perf_counter()
        model = fit(split.train)
        show(name, model, split, time.perf_counter() - start)
    print("\nconfiguration chosen on validation")
    names = QUICK if interactions.timestamp is not None else QUICK[1:]
    print_tuned(interactions, split, names + (SLOW if arguments.slow else ()))


if __name__ == "__main__":
    main()
