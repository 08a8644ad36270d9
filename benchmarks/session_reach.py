"""Time to reach a given accuracy: `sessions.py reach`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from recbole_process import started
from session_speed import batch_size, naive_gradient

from recsys.config import Runtime
from recsys.data import Split
from recsys.embeddings import ppmi_embeddings
from recsys.evaluation import evaluate
from recsys.sessions import SessionConfig, SessionModel, SessionNetwork, fit_session_model
from recsys.sessions.batches import chunk_sequences
from recsys.sessions.trainer import new_optimizer, set_learning_rate

Report = Callable[[float, float, float], None]
"""Gets epochs, CPU seconds of training and NDCG@10; raises `StopTraining` to stop."""

_STEPS_PER_RANKING = 60
"""Steps of RecBole, an eighth of an epoch of MovieLens-1M, between two rankings."""


class StopTraining(Exception):  # noqa: N818 - not an error
    """The goal or the time limit is reached."""


def reach(
    split: Split, config: SessionConfig, goal: float, limit: float, recbole: Path | None
) -> None:
    """Train each loop until NDCG@10 is `goal`, or for `limit` CPU seconds.

    The time for ranking is not counted.
    """
    config = config.resolve(len(split.train))
    trainings: dict[str, Callable[[Report], None]] = {
        f"ours, {Runtime().torch_precision()}": lambda report: own_training(split, config, report),
        "naive, float32": lambda report: naive_training(split, config, report),
    }
    if recbole:
        trainings["RecBole's GRU4Rec, its sizes"] = lambda report: recbole_training(
            split, recbole, report
        )
    for name, training in trainings.items():

        def report(epochs: float, seconds: float, ndcg: float, name: str = name) -> None:
            print(
                f"{name:<30} {epochs:>6.2f} epochs {seconds:>7,.0f} s  NDCG@10 {ndcg:.4f}",
                flush=True,
            )
            if ndcg >= goal or seconds >= limit:
                raise StopTraining

        try:
            training(report)
        except StopTraining:
            continue


def own_training(split: Split, config: SessionConfig, report: Report) -> None:
    """Train as a user does; the seconds include everything from the interactions on."""
    epochs, ranking, started = 0, 0.0, time.process_time()

    def validate(model: SessionModel) -> dict[str, float]:
        nonlocal epochs, ranking
        epochs, before = epochs + 1, time.process_time()
        ndcg = evaluate(model, split, "validation").metrics["ndcg_at_10"]
        report(epochs, before - started - ranking, ndcg)
        ranking += time.process_time() - before
        return {}

    vectors = ppmi_embeddings(split.train, config.embedding_dim or 0)
    fit_session_model(split.train, config, item_embeddings=vectors, validate=validate)


def naive_training(split: Split, config: SessionConfig, report: Report) -> None:
    """The same network, initial parameters and learning rates with the naive gradient."""
    log, rng = split.train, np.random.default_rng(0)
    torch.manual_seed(0)
    vectors = ppmi_embeddings(log, config.embedding_dim or 0)
    network = SessionNetwork(log.n_items, config)
    counts = torch.from_numpy(np.bincount(log.item_index, minlength=log.n_items))
    network.reset_parameters(torch.Generator().manual_seed(0), counts.float())
    network.load_item_embeddings(torch.from_numpy(vectors))
    optimizer, size, step, seconds = new_optimizer(network), batch_size(log, config), 0, 0.0
    for epoch in range(config.epochs):
        started = time.process_time()
        cuts = chunk_sequences(log, config.train_chunk_length, rng)
        order = rng.permutation(len(cuts))
        for first in range(0, len(order), size):
            progress = (epoch + first / len(order)) / config.epochs
            set_learning_rate(optimizer, config, step, progress)
            optimizer.zero_grad(set_to_none=True)
            naive_gradient(network.train(), log, cuts[order[first : first + size]])
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            optimizer.step()
            step += 1
        seconds += time.process_time() - started
        metrics = evaluate(SessionModel(network.eval(), log.items), split, "validation").metrics
        report(epoch + 1, seconds, metrics["ndcg_at_10"])


def recbole_training(split: Split, recbole: Path, report: Report) -> None:
    """RecBole's own training, without the creation of its prefixes."""
    with started(recbole, split.interactions, {}) as training:
        while True:
            training.steps(_STEPS_PER_RANKING)
            report(*training.rank())
