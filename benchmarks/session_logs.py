"""Models of sessions: within the session, and with the user's earlier sessions as context.

    python benchmarks/session_logs.py [shop] [music] [--users 4000 --items 1000 --seed 0]
        [--split last_session] [--epochs 16]

Logs are those of `recsys data synth --kind shop` and `--kind music`: of the shop, the views with
their column of sessions; the plays of music are cut at gaps of 30 minutes. The targets are the same
rows for both kinds of histories: the events of held-out sessions but the first of each. Repeats are
allowed. The whole catalogue is ranked. The settings of the baselines, and the learning rate and
epoch of the LSTM, are chosen by NDCG@10 of the validation targets; the tables are of the test
targets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import pandas as pd

from recsys.baselines import fit_baseline
from recsys.config import Runtime
from recsys.data import DataConfig, Split, read_ratings
from recsys.data.options import Histories
from recsys.data.synthetic_logs import LogConfig, synthesise_log
from recsys.embeddings import ppmi_embeddings
from recsys.evaluation import Report, Scorer, comparison_table, evaluate, evaluate_metric
from recsys.sessions import SessionConfig, fit_session_model

BASELINES = ("user-recent", "user-frequent", "item-knn", "markov", "popularity")
LEARNING_RATES = (3e-3, 1e-3)
COLUMNS = ["NDCG@10", "Recall@20", "MRR@20"]


def read(kind: str, histories: Histories, given: argparse.Namespace) -> Split:
    config = LogConfig(kind=kind, n_users=given.users, n_items=given.items, seed=given.seed)
    log, _ = synthesise_log(config)
    if "event" in log:
        log = log[log["event"] == "view"].drop(columns="event")
    interactions = read_ratings(
        log,
        repeats="allow",
        histories=histories,
        session_gap=None if "session_id" in log else "30min",
    )
    data = DataConfig.model_validate({"split": {"method": given.split}})
    return data.split.apply(interactions)


def fit_lstm(split: Split, epochs: int, seed: int) -> Scorer:
    """The LSTM of the learning rate and epoch that are best on the validation targets."""
    runtime = Runtime(seed=seed)
    start = ppmi_embeddings(split.train, dim=64, runtime=runtime)
    models = [
        fit_session_model(
            split.train,
            SessionConfig(epochs=epochs, learning_rate=rate),
            item_embeddings=start,
            runtime=runtime,
            validate=lambda model: {"ndcg_at_10": evaluate_metric(model, split)},
        )
        for rate in LEARNING_RATES
    ]
    return max(models, key=lambda model: evaluate_metric(model, split))


def fit_all(split: Split, given: argparse.Namespace) -> Iterator[tuple[str, Report]]:
    for name in BASELINES:
        fitted = fit_baseline(
            name, split.train, validate=lambda model: evaluate_metric(model, split)
        )
        yield name, evaluate(fitted.model, split)
    yield "lstm", evaluate(fit_lstm(split, given.epochs, given.seed), split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", default=["shop", "music"])
    parser.add_argument("--users", type=int, default=4000)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="last_session")
    parser.add_argument("--epochs", type=int, default=16)
    given = parser.parse_args()
    for kind in given.kinds:
        tables = {}
        for histories in ("session", "user"):
            start = time.process_time()
            split = read(kind, histories, given)
            log = split.interactions
            tables[histories] = comparison_table(dict(fit_all(split, given)))[COLUMNS]
            print(
                f"{kind}, histories of {histories}s: {len(log):,} events, {log.n_items:,} items, "
                f"{len(log.sessions):,} sessions of {len(log.sessions.users):,} users, "
                f"{len(split.rows('test')):,} targets; {time.process_time() - start:.0f} s of CPU"
            )
        table = pd.concat(tables, axis=1, names=["histories"])
        print(f"\n{table.round(4).to_string()}\n")


if __name__ == "__main__":
    main()
