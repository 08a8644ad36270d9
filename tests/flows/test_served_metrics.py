"""The reported metrics are those of the answers that the deployed model gives over HTTP."""

import json
import math

import httpx
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from flows.train import train
from recsys.config import CHAMPION_ALIAS
from recsys.data import DataConfig, read_ratings
from recsys.data.config import LastDays, LastSession
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.data.synthetic_logs import LogConfig, write_log
from recsys.embeddings import EmbeddingConfig
from recsys.sessions import SessionConfig

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


@pytest.fixture(scope="module", params=KINDS)
def trained(request, home):
    """A name, the settings of the data, and the metrics that the flow reports."""
    write, data, is_repeating = KINDS[request.param]
    name = request.param.replace(" ", "-")
    write(home / name)
    run_id = train(source=name, data=data, model_name=name, **SETTINGS)
    log = read_ratings(home / name, **data.read_options(), on_report=lambda report: None)
    assert log.repeats is is_repeating
    assert (log.weight is not None) is (name == "shop")
    return (
        name,
        data.split.apply(log),
        MlflowClient(f"sqlite:///{home}/mlflow/mlflow.db").get_run(run_id).data.metrics,
    )


@pytest.fixture
def url(trained, start_recsys):
    process = start_recsys("serve", f"models:/{trained[0]}@{CHAMPION_ALIAS}", "--port", "0")
    for line in process.stderr:
        event = json.loads(line)
        if event["event"] == "serving":
            yield event["url"]
            break
    process.kill()
    process.communicate()


def test_reported_metrics_are_those_of_the_answers(trained, url):
    _, split, metrics = trained
    ids = split.interactions.items.ids
    gains = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for history, target in zip(split.histories("test"), split.targets("test"), strict=True):
            body = {"history": ids[history].tolist(), "k": 20}
            answer = client.post("/v1/next", json=body).raise_for_status().json()
            items = [item["item_id"] for item in answer["items"]]
            gains.append(items.index(ids[target]) + 1 if ids[target] in items else math.inf)
    assert len(gains) > 20
    for k in (5, 10, 20):  # MLflow has six decimals
        hits = [rank <= k for rank in gains]
        ndcg = [hit / math.log2(rank + 1) for hit, rank in zip(hits, gains, strict=True)]
        reciprocal = [hit / rank for hit, rank in zip(hits, gains, strict=True)]
        assert metrics[f"test_hit_rate_at_{k}"] == pytest.approx(np.mean(hits).round(6), abs=1e-9)
        assert metrics[f"test_ndcg_at_{k}"] == pytest.approx(np.mean(ndcg).round(6), abs=1e-9)
        assert metrics[f"test_mrr_at_{k}"] == pytest.approx(np.mean(reciprocal).round(6), abs=1e-9)
