"""How far a session model goes on from an earlier one, when new watches come in.

    python benchmarks/warm_start.py path/to/ml-latest-small [--seed 0 --seed 1] [--share 0.9]

The earlier model has learned from the first so many of each user's watches, as `train` does. Then
all but each user's last six are there to learn from: from the beginning again, or going on from
the earlier model for a few epochs at some peak rate, as `refresh` does. Judged by the three
watches before the last three; those are never looked at. Each row is the model after its last
epoch. NLL is the mean of −log p of the targets, in nats; the first row has learned nothing new.
"""

from __future__ import annotations

import argparse
import os
import time
from itertools import product
from pathlib import Path

import numpy as np
from session_ablations import nll
from sessions import read, settings

from recsys.config import Runtime
from recsys.data import Interactions, Split, k_core, leave_last_n
from recsys.embeddings import windowed_vectors
from recsys.evaluation import evaluate
from recsys.sessions import SessionConfig, SessionModel, fit_session_model

EPOCHS = (1, 2, 4, 8)
RATES = (3e-4, 1e-3, 3e-3)


def first_share(log: Interactions, share: float) -> Interactions:
    """The first so many of each user's watches."""
    place = np.arange(len(log)) - np.repeat(log.user_offsets[:-1], log.history_lengths)
    return log.keep(place < np.repeat(np.ceil(share * log.history_lengths), log.history_lengths))


def from_the_beginning(log: Interactions, config: SessionConfig, runtime: Runtime) -> SessionModel:
    vectors = windowed_vectors(log, config.embedding_dim or 0, runtime=runtime)
    return fit_session_model(log, config, item_vectors=vectors, runtime=runtime)


def measure(model: SessionModel, split: Split, seconds: float) -> tuple[float, ...]:
    metrics = evaluate(model, split, "validation").metrics
    return metrics["hit_rate_at_10"], metrics["ndcg_at_10"], nll(model, split), seconds


def race(split: Split, share: float, config: SessionConfig, seed: int) -> dict[str, tuple]:
    """Each way of learning the new watches, and what came of it."""
    runtime = Runtime(seed=seed)
    config = config.for_data(len(split.train))
    began = time.process_time()
    earlier = from_the_beginning(first_share(split.train, share), config, runtime)
    rows = {"the earlier model": measure(earlier, split, time.process_time() - began)}
    began = time.process_time()
    anew = from_the_beginning(split.train, config, runtime)
    rows["from the beginning"] = measure(anew, split, time.process_time() - began)
    for epochs, rate in product(EPOCHS, RATES):
        warm = config.model_copy(update={"epochs": epochs, "learning_rate": rate})
        began = time.process_time()
        model = fit_session_model(split.train, warm, start=earlier, runtime=runtime)
        name = f"{epochs} more at {rate:g}"
        rows[name] = measure(model, split, time.process_time() - began)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ratings", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--share", type=float, default=0.9, help="of the watches, that were there")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    log, _ = k_core(read(given.ratings), min_item=5)
    split, seeds = leave_last_n(log, 3), given.seed or [0]
    print(
        f"{len(first_share(split.train, given.share)):,} of {len(split.train):,} watches, "
        f"{len(split.targets('validation')):,} targets, seeds {seeds}, {os.cpu_count()} cores"
    )
    found = [race(split, given.share, settings(given.set), seed) for seed in seeds]
    print("| | HitRate@10 | NDCG@10 | NLL | processor seconds |\n" + "| --- " * 5 + "|")
    for name in found[0]:
        hit, ndcg, loss, seconds = np.mean([rows[name] for rows in found], axis=0)
        print(f"| {name} | {hit:.4f} | {ndcg:.4f} | {loss:.3f} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
