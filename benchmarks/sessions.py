"""Accuracy and training speed of the session model.

    python benchmarks/sessions.py accuracy [path/to/ratings] [--seed 0 --seed 1] [--set epochs=4]
        [--every 4] [--users 660] [--checkpoint folder] [--calibration] [--processes 2]
    torchrun --nproc-per-node 2 benchmarks/sessions.py accuracy path/to/ratings
    python benchmarks/sessions.py speed [path/to/ratings] [--rounds 3 --steps 5] [--recbole python]
    python benchmarks/sessions.py reach [path/to/ratings] [--goal 0.18] [--recbole python]
    python benchmarks/sessions.py evaluation [path/to/ratings]

`accuracy` trains on all but each user's last item and ranks the whole catalogue for it, without
the items of the history. `--validation` holds out two items and ranks for the second to last; the
last is never used. It prints every epoch and evaluates after each, or after each `--every`:
`seconds` are wall time, `cpu` CPU time. With `--checkpoint`, an interrupted run resumes.
`--calibration` prints the expected calibration error. `--users` takes the first n users. Without a
path, ratings are synthetic.

`speed` measures interactions per second of training steps, next to a naive loop: the same network
on random batches, all logits at once in float32 and torch's cross-entropy; and next to RecBole's
GRU4Rec, if `--recbole` names a Python that has it (`recbole_gru4rec.py` describes the setup). The
loops alternate, `--rounds` of `--steps` each.

`reach` trains the same loops one after the other until NDCG@10 of each user's last item is
`--goal`, or for `--limit` CPU seconds, without the time for ranking, and prints each evaluation.

`evaluation` times `recsys.evaluate` over all users and the whole catalogue.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from session_reach import reach
from session_speed import compare

from recsys.config import Runtime
from recsys.data import Interactions, Split, leave_last_out, read_ratings
from recsys.data.splitters import VALIDATION
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings
from recsys.embeddings import ppmi_embeddings
from recsys.evaluation import evaluate
from recsys.sessions import (
    SessionConfig,
    SessionModel,
    SessionNetwork,
    expected_calibration_error,
    fit_session_model,
)


def read(path: Path | None, n_users: int | None = None) -> Interactions:
    """The log, or that of its first users."""
    if path:
        log = read_ratings(path)
    else:
        ratings, movies = synthesise_ratings(SyntheticConfig(n_users=2000, n_items=1000))
        log = read_ratings(ratings.merge(movies, on="item_id"))
    if n_users is None:
        return log
    return log.filter(np.arange(len(log)) < log.user_offsets[: n_users + 1][-1])


def hold_out_last(log: Interactions) -> Split:
    """A split with each user's last item as validation target and no test target."""
    part = np.zeros(len(log), dtype=np.int8)
    several = log.history_lengths > 1
    part[log.user_offsets[1:][several] - 1] = VALIDATION
    return Split(log, part, "last item")


def accuracy(
    log: Interactions, seed: int, config: SessionConfig, given: argparse.Namespace
) -> None:
    split = leave_last_out(log) if given.validation else hold_out_last(log)
    config = config.resolve(len(split.train))
    print(f"seed {seed}: {len(split.train):,} interactions, {log.n_items:,} items", flush=True)
    vectors = ppmi_embeddings(split.train, config.embedding_dim or 0, runtime=Runtime(seed=seed))
    started, computed = time.perf_counter(), time.process_time()
    done = 0

    def validate(model: SessionModel) -> dict[str, float]:
        if (done + 1) % given.every and done + 1 != config.epochs:
            return {}
        return dict(evaluate(model, split, "validation").metrics)

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        nonlocal done
        done = epoch
        if int(os.environ.get("RANK", "0")) == 0:
            print(
                f"epoch {epoch:>3}  loss {metrics['train_loss']:.4f}  "
                f"HitRate@10 {metrics.get('hit_rate_at_10', np.nan):.4f}  "
                f"NDCG@10 {metrics.get('ndcg_at_10', np.nan):.4f}  "
                f"{metrics['interactions_per_second']:>7,.0f} interactions/s  "
                f"seconds {time.perf_counter() - started:,.0f}  "
                f"cpu {time.process_time() - computed:,.0f}",
                flush=True,
            )

    model = fit_session_model(
        split.train,
        config,
        item_embeddings=vectors,
        runtime=Runtime(seed=seed, processes=given.processes),
        on_epoch=on_epoch,
        validate=validate,
        checkpoint=given.checkpoint / f"seed-{seed}" if given.checkpoint else None,
    )
    if given.calibration:
        scores = model.score(split.histories("validation"))
        error = expected_calibration_error(scores, split.targets("validation"))
        print(f"expected calibration error {error:.3f}", flush=True)


def nll(
    model: SessionModel,
    histories: Sequence[NDArray[np.int32]],
    targets: NDArray[np.int32],
    batch_size: int = 256,
) -> float:
    """Mean −log p of the targets, in nats, over the items outside the histories."""
    total = 0.0
    for start in range(0, len(targets), batch_size):
        batch = slice(start, start + batch_size)
        scores = model.score(histories[batch]).astype(np.float64)
        scores[[np.isin(np.arange(scores.shape[1]), h) for h in histories[batch]]] = -np.inf
        scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
        total -= scores[np.arange(len(scores)), targets[batch]].sum()
    return float(total / len(targets))


def evaluation(log: Interactions, config: SessionConfig) -> None:
    """Time the ranking of the whole catalogue for every user, with an untrained network."""
    split = hold_out_last(log)
    config = config.resolve(len(split.train))
    network = SessionNetwork(log.n_items, config)
    network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(log.n_items))
    model = SessionModel(network.eval(), log.items)
    for _ in range(3):
        started, computed = time.perf_counter(), time.process_time()
        metrics = evaluate(model, split, "validation").metrics
        print(
            f"{len(split.targets('validation')):,} users, {log.n_items:,} items, {len(metrics)} "
            f"metrics: {time.perf_counter() - started:.2f} s wall time, "
            f"{time.process_time() - computed:.2f} s CPU time",
            flush=True,
        )


def settings(pairs: list[str]) -> SessionConfig:
    """A configuration from `name=value` pairs; values are JSON or text."""

    def value(text: str) -> object:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text

    return SessionConfig(**{name: value(text) for name, text in (p.split("=", 1) for p in pairs)})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["accuracy", "speed", "reach", "evaluation"])
    parser.add_argument("ratings", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each loop")
    parser.add_argument("--steps", type=int, default=5, help="steps per round")
    parser.add_argument("--recbole", type=Path, help="a Python that has RecBole")
    parser.add_argument("--goal", type=float, default=0.18, help="NDCG@10 to reach")
    parser.add_argument("--limit", type=float, default=3600, help="CPU seconds per training")
    parser.add_argument("--every", type=int, default=1, help="epochs between evaluations")
    parser.add_argument("--users", type=int, help="number of users, the first ones")
    parser.add_argument("--processes", type=int, default=1, help="processes of a training")
    parser.add_argument("--checkpoint", type=Path, help="folder to resume from")
    parser.add_argument("--calibration", action="store_true", help="print the calibration error")
    parser.add_argument(
        "--validation", action="store_true", help="hold out two items, rank for one"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    config = settings(given.set)
    print(
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.1f} at the start, torch {torch.__version__}",
        flush=True,
    )
    if given.what == "speed":
        compare(read(given.ratings), config, given.rounds, given.steps, given.recbole)
        return
    if given.what == "reach":
        split = hold_out_last(read(given.ratings))
        reach(split, config, given.goal, given.limit, given.recbole)
        return
    if given.what == "evaluation":
        evaluation(read(given.ratings), config)
        return
    for seed in given.seed or [0]:
        accuracy(read(given.ratings, given.users), seed, config, given)


if __name__ == "__main__":
    main()
