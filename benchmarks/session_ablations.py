"""The session model with one change at a time.

    python benchmarks/session_ablations.py path/to/ml-latest-small [--seed 0 --seed 1 --seed 2]
        [--users 1500] [--only default --only GRU] [--set epochs=4]

Trains on all but each user's last six items and predicts the three before the last three; the
last three are never used. Items with fewer than five interactions are dropped. Each row is the
model after its last epoch. NLL is the mean −log p of the targets over the items outside the
histories, in nats; it separates variants better than ranks do. `±` is the standard deviation over
the seeds. `--set` applies to all rows; `--users` takes the first n users. Without a path, ratings
are synthetic.

Rejected variants are in `session_variants.py`.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from session_variants import TRIED, Variant
from sessions import nll, read, settings

from recsys.config import Runtime
from recsys.data import Split, k_core, leave_last_n
from recsys.embeddings import ppmi_embeddings
from recsys.evaluation import evaluate
from recsys.sessions import SessionConfig, fit_session_model

VARIANTS: dict[str, dict[str, object]] = {
    "default": {},
    "random initial embeddings": {"item_embedding_init": "random"},
    "frozen embeddings": {"freeze_item_embeddings": True},
    "no attention": {"attention": False},
    "no feed-forward block": {"feed_forward": 0},
    "no EMAs, latest input only": {"ema_half_lives": ()},
    "no EMA dropout": {"ema_dropout": 0.0},
    "no item dropout": {"item_dropout": 0.0},
    "no variational dropout": {"input_dropout": 0.0, "output_dropout": 0.0, "ema_dropout": 0.0},
    "no label smoothing": {"label_smoothing": 0.0},
    "no weight decay": {"weight_decay": 0.0},
    "GRU": {"cell": "gru"},
    "tanh": {"cell": "rnn"},
    "two layers": {"n_layers": 2},
    "state of 128": {"hidden_dim": 128},
    "state of 512": {"hidden_dim": 512},
    "defaults for small data": {"embedding_dim": 64, "input_dropout": 0.2},
    "defaults for large data": {"embedding_dim": 128, "input_dropout": 0.1},
    "chunks of 50": {"train_chunk_length": 50},
    "chunks of 200": {"train_chunk_length": 200},
    "half the learning rate": {"learning_rate": 1.5e-3},
    "twice the learning rate": {"learning_rate": 6e-3},
    "batches of 16": {"batch_size": 16},
    "batches of 64": {"batch_size": 64},
    "sampled loss, 512 negatives": {"loss": "sampled"},
}
"""The changed settings of each variant."""


def measure(
    split: Split, name: str, config: SessionConfig, seed: int
) -> tuple[float, float, float, float]:
    """HitRate@10, NDCG@10, NLL and CPU seconds of one training."""
    config = config.resolve(len(split.train))
    runtime = Runtime(seed=seed)
    started = time.process_time()
    vectors = ppmi_embeddings(split.train, config.embedding_dim or 0, runtime=runtime)
    with TRIED.get(name, Variant()).in_place():
        model = fit_session_model(split.train, config, item_embeddings=vectors, runtime=runtime)
    seconds = time.process_time() - started
    metrics = evaluate(model, split, "validation").metrics
    loss = nll(model, split.histories("validation"), split.targets("validation"))
    return metrics["hit_rate_at_10"], metrics["ndcg_at_10"], loss, seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ratings", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--users", type=int, help="number of users, the first ones")
    parser.add_argument("--only", action="append", choices=[*VARIANTS, *TRIED], metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    base, seeds = settings(given.set), given.seed or [0, 1, 2]
    log = read(given.ratings, given.users)
    log, _ = k_core(log, min_item_interactions=5)
    split = leave_last_n(log, 3)
    print(
        f"{len(split.train):,} interactions with {log.n_items:,} items by {log.n_users:,} users, "
        f"{len(split.targets('validation')):,} targets, seeds {seeds}, "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
        "| variant | HitRate@10 | NDCG@10 | NLL | CPU seconds |\n"
        "| --- | --- | --- | --- | --- |",
        flush=True,
    )
    for name in given.only or [*VARIANTS, *TRIED]:
        config = base.model_copy(update=VARIANTS.get(name, {}))
        rows = np.array([measure(split, name, config, seed) for seed in seeds])
        mean, spread = rows.mean(axis=0), rows.std(axis=0, ddof=min(1, len(rows) - 1))
        print(
            f"| {name} | {mean[0]:.4f} ± {spread[0]:.4f} | {mean[1]:.4f} ± {spread[1]:.4f} | "
            f"{mean[2]:.3f} ± {spread[2]:.3f} | {mean[3]:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
