"""Warm start: continuing an earlier model on new interactions, compared with training from scratch.

    python benchmarks/warm_start.py path/to/ml-latest-small [--seed 0 --seed 1] [--share 0.9]

The earlier model is trained on the first share of each user's items, as `train` does. All but
each user's last six items are then used to train from scratch, or to continue the earlier
model for a few epochs with some peak rate, as `refresh` does. The targets are the three items
before the last three; those are never used. Each row is the model after its last epoch. NLL is
the mean −log p of the targets, in nats; the first row is the earlier model.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
from sessions import nll, read, settings

from recsys.config import Runtime
from recsys.data import Interactions, Split, k_core, leave_last_n
from recsys.embeddings import ppmi_embeddings
from recsys.evaluation import evaluate
from recsys.sessions import SessionConfig, SessionModel, fit_session_model

Train = Callable[[Runtime], SessionModel]

EPOCHS = (1, 2, 4, 8)
RATES = (3e-4, 1e-3, 3e-3)


def first_share(log: Interactions, share: float) -> Interactions:
    """The first share of each user's items."""
    position = np.arange(len(log)) - np.repeat(log.user_offsets[:-1], log.history_lengths)
    return log.filter(
        position < np.repeat(np.ceil(share * log.history_lengths), log.history_lengths)
    )


def from_scratch(log: Interactions, config: SessionConfig, runtime: Runtime) -> SessionModel:
    vectors = ppmi_embeddings(log, config.embedding_dim or 0, runtime=runtime)
    return fit_session_model(log, config, item_embeddings=vectors, runtime=runtime)


def measure(train: Train, split: Split, runtime: Runtime) -> tuple[float, ...]:
    began = time.process_time()
    model = train(runtime)
    seconds = time.process_time() - began
    metrics = evaluate(model, split, "validation").metrics
    loss = nll(model, split.histories("validation"), split.targets("validation"))
    return metrics["hit_rate_at_10"], metrics["ndcg_at_10"], loss, seconds


def variants(earlier: SessionModel, log: Interactions, config: SessionConfig) -> dict[str, Train]:
    """The ways to train on the new interactions, by name."""
    found: dict[str, Train] = {
        "the earlier model": lambda _runtime: earlier,
        "from scratch": lambda runtime: from_scratch(log, config, runtime),
    }
    for epochs, rate in product(EPOCHS, RATES):
        warm = config.model_copy(update={"epochs": epochs, "learning_rate": rate})
        found[f"{epochs} more at {rate:g}"] = lambda runtime, warm=warm: fit_session_model(
            log, warm, start=earlier, runtime=runtime
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ratings", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument(
        "--share",
        type=float,
        default=0.9,
        help="share of the interactions that the earlier model was trained on",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    log, _ = k_core(read(given.ratings), min_item_interactions=5)
    split, seeds = leave_last_n(log, 3), given.seed or [0]
    print(
        f"{len(first_share(split.train, given.share)):,} of {len(split.train):,} interactions, "
        f"{len(split.targets('validation')):,} targets, seeds {seeds}, {os.cpu_count()} cores"
    )
    config = settings(given.set).resolve(len(split.train))
    known = first_share(split.train, given.share)
    runtimes = [Runtime(seed=seed) for seed in seeds]
    by_seed = [
        variants(from_scratch(known, config, runtime), split.train, config) for runtime in runtimes
    ]
    print("| | HitRate@10 | NDCG@10 | NLL | CPU seconds |\n" + "| --- " * 5 + "|", flush=True)
    for name in by_seed[0]:
        rows = [
            measure(train[name], split, runtime)
            for train, runtime in zip(by_seed, runtimes, strict=True)
        ]
        hit, ndcg, loss, seconds = np.mean(rows, axis=0)
        print(f"| {name} | {hit:.4f} | {ndcg:.4f} | {loss:.3f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
