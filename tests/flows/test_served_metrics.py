"""The reported metrics are those of the answers that the deployed model gives over HTTP."""

import math

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from prefect import flow

from flows.orchestration import training_run
from flows.settings import Settings
from flows.tasks.data import read
from flows.tasks.pending import register_and_promote
from flows.tasks.stages import fit_stages
from recsys.data import DataConfig, read_ratings
from recsys.data.config import LastDays, LastSession
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.data.synthetic_logs import LogConfig, write_log
from recsys.embeddings import EmbeddingConfig
from recsys.loading import load_recommender
from recsys.serving import create_app
from recsys.sessions import SessionConfig
from recsys.tracking import find_champion
from recsys.tracking.store import connect

SETTINGS = {
    "embeddings": EmbeddingConfig(dim=8),
    "session_model": SessionConfig(embedding_dim=8, hidden_dim=16, epochs=2),
}


def write_plays(folder):
    """Plays of 50 listeners who return to a few of 40 songs; every other ends with a new one."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for user in range(50):
        new, *favourites = rng.permutation(40)[:6]
        n_plays = int(rng.integers(2, 25))
        rows += [(user, rng.choice(favourites), 10**9 + time) for time in range(n_plays)]
        rows += [(user, new, 10**9 + n_plays)] * (user % 2)
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    frame.to_csv(folder / "plays.csv", index=False)


def write_films(folder):
    """Films, none twice by a user, with users of two or three ratings among them."""
    write_sample(folder, SyntheticConfig(n_users=60, n_items=50, mean_events=12))
    with (folder / "ratings.csv").open("a") as ratings:
        for user in range(1000, 1010):
            for item in range(1, 2 + user % 3 + 1):
                ratings.write(f"{user},{item},4.0,{1_600_000_000 + item}\n")


def write_sessions(folder):
    """Sessions of 40 users over six days, some at the same time, each among ten of 40 items."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for session in range(200):
        start, items = rng.integers(0, 6 * 86_400), rng.integers(4) * 10 + rng.permutation(10)
        rows += [
            (session % 40, session, items[step % 5], 10**9 + start + 600 * step)
            for step in range(rng.integers(1, 7))
        ]
    frame = pd.DataFrame(rows, columns=["user_id", "session_id", "item_id", "timestamp"])
    frame.to_csv(folder / "visits.csv", index=False)


def write_shop(folder):
    """Views, carts and purchases, of which views form the histories."""
    write_log(folder, LogConfig(kind="shop", n_users=60, n_items=40))


KINDS = {
    "films": (write_films, DataConfig(), False),
    "plays": (write_plays, DataConfig(), True),
    "plays without repeats": (write_plays, DataConfig(repeats="exclude"), False),
    "sessions": (write_sessions, DataConfig(split=LastDays()), False),
    "sessions after earlier ones": (
        write_sessions,
        DataConfig(split=LastSession(), histories="user", repeats="allow"),
        True,
    ),
    "shop": (write_shop, DataConfig(histories="user", repeats="allow"), True),
}


CLUSTERED = ("films", "plays")
"""Kinds whose items are clustered, as those of a large catalogue."""


@flow
def train_without_baselines(settings):
    """The stages of the flow `train` that lead to a registered model."""
    with training_run("train", settings.source, settings) as run:
        split = read(settings.source, settings.data, run)
        trained = fit_stages(split, settings, run)
        register_and_promote(trained, settings, run)
    return trained


@pytest.mark.parametrize("kind", KINDS)
def test_reported_metrics_are_those_of_the_answers(home, kind, monkeypatch):
    write, data, is_repeating = KINDS[kind]
    if kind in CLUSTERED:
        monkeypatch.setattr("recsys.recommender.bundle.ANN_THRESHOLD", 30)
        monkeypatch.setattr("recsys.recommender.clusters._MAX_MISSED", (0.0,))
    name = kind.replace(" ", "-")
    write(home / name)
    trained = train_without_baselines(Settings(source=name, data=data, model_name=name, **SETTINGS))
    log = read_ratings(home / name, **data.read_options(), on_report=lambda report: None)
    assert log.repeats is is_repeating
    assert (log.weight is not None) is (name == "shop")
    split, metrics = data.split.apply(log), trained.reports["test"].metrics

    rec = load_recommender(f"models:/{name}@champion")
    assert (rec.bundle.clusters is not None) is (kind in CLUSTERED)
    logged = connect().get_run(find_champion(name).run_id).data.metrics
    assert logged.get("search_recall_at_10") == (1.0 if kind in CLUSTERED else None)
    ids, ranks = split.interactions.items.ids, []
    with TestClient(create_app(lambda: rec)) as client:
        for history, target in zip(split.histories("test"), split.targets("test"), strict=True):
            body = {"history": ids[history].tolist(), "k": 20}
            answer = client.post("/v1/next", json=body).raise_for_status().json()
            items = [item["item_id"] for item in answer["items"]]
            ranks.append(items.index(ids[target]) + 1 if ids[target] in items else math.inf)
    assert len(ranks) > 20
    for k in (5, 10, 20):
        hits = [rank <= k for rank in ranks]
        ndcg = [hit / math.log2(rank + 1) for hit, rank in zip(hits, ranks, strict=True)]
        reciprocal = [hit / rank for hit, rank in zip(hits, ranks, strict=True)]
        assert metrics[f"hit_rate_at_{k}"] == pytest.approx(np.mean(hits), abs=1e-9)
        assert metrics[f"ndcg_at_{k}"] == pytest.approx(np.mean(ndcg), abs=1e-9)
        assert metrics[f"mrr_at_{k}"] == pytest.approx(np.mean(reciprocal), abs=1e-9)
