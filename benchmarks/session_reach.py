"""How long it takes to rank well: `sessions.py reach`."""

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

Tell = Callable[[float, float, float], None]
"""Is told epochs, processor seconds of training, and NDCG@10; raises `Enough`."""

_STEPS_A_TURN = 60
"""Steps of RecBole, an eighth of an epoch of MovieLens-1M, between two rankings."""


class Enough(Exception):  # noqa: N818 - nothing is wrong
    """The goal is reached, or the time is up."""


def reach(
    split: Split, config: SessionConfig, goal: float, limit: float, recbole: Path | None
) -> None:
    """Train each loop until it ranks as well as `goal`, or for `limit` processor seconds.

    What it takes to rank is not counted.
    """
    config = config.resolve(len(split.train))
    trainings: dict[str, Callable[[Tell], None]] = {
        f"ours, {Runtime().torch_precision()}": lambda tell: own_training(split, config, tell),
        "naive, float32": lambda tell: naive_training(split, config, tell),
    }
    if recbole:
        trainings["RecBole's GRU4Rec, its sizes"] = lambda tell: recbole_training(
            split, recbole, tell
        )
    for name, training in trainings.items():

        def tell(epochs: float, seconds: float, ndcg: float, name: str = name) -> None:
            print(
                f"{name:<30} {epochs:>6.2f} epochs {seconds:>7,.0f} s  NDCG@10 {ndcg:.4f}",
                flush=True,
            )
            if ndcg >= goal or seconds >= limit:
                raise Enough

        try:
            training(tell)
        except Enough:
            continue


def own_training(split: Split, config: SessionConfig, tell: Tell) -> None:
    """As a user trains: the seconds hold all that the library does, from the log on."""
    epochs, ranking, started = 0, 0.0, time.process_time()

    def validate(model: SessionModel) -> dict[str, float]:
        nonlocal epochs, ranking
        epochs, before = epochs + 1, time.process_time()
        ndcg = evaluate(model, split, "validation").metrics["ndcg_at_10"]
        tell(epochs, before - started - ranking, ndcg)
        ranking += time.process_time() - before
        return {}

    vectors = ppmi_embeddings(split.train, config.embedding_dim or 0)
    fit_session_model(split.train, config, item_embeddings=vectors, validate=validate)


def naive_training(split: Split, config: SessionConfig, tell: Tell) -> None:
    """The same network, start and learning rates, around the naive loop's gradient."""
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
        tell(epoch + 1, seconds, metrics["ndcg_at_10"])


def recbole_training(split: Split, recbole: Path, tell: Tell) -> None:
    """RecBole's own training; the making of its prefixes is not counted."""
    with started(recbole, split.interactions, {}) as training:
        while True:
            training.steps(_STEPS_A_TURN)
            tell(*training.rank())
