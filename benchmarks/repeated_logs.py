"""Accuracy of the session model and the baselines on synthetic logs in which items repeat.

    OMP_NUM_THREADS=1 python benchmarks/repeated_logs.py [--kind music] [--repeats allow]
        [--users 1500] [--items 2000] [--seed 0]

The log, plays of music or views of a shop, is read with `repeats` allowed and excluded. The last
interaction of each user is the test target and the one before the validation target; the history is
all that the user did before. All items are ranked. Settings of the baselines, and of the session
model its epoch and one of two configurations, are chosen on validation targets; the tables are for
test targets. `p` is the p-value of the difference in NDCG@10 to the session model (randomisation
test over users, adjusted for the number of models).
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from typing import Literal, get_args

import pandas as pd

from recsys.baselines import default_baselines, fit_baseline
from recsys.config import Runtime
from recsys.console import print_table
from recsys.cooccurrence import count_cooccurrence
from recsys.data import Split, leave_last_out, read_ratings
from recsys.data.synthetic_logs import LogConfig, synthesise_log
from recsys.embeddings import fit_embeddings, ppmi_embeddings
from recsys.evaluation import (
    Report,
    evaluate,
    evaluate_metric,
    segment_metrics,
    segment_targets,
    significance_table,
)
from recsys.recommender.scoring import ItemScorer
from recsys.sessions import SessionConfig, SessionModel, fit_session_model, from_torch

Repeats = Literal["allow", "exclude"]

N_USERS = {"music": 1_500, "shop": 6_000}
CONFIGS = (
    SessionConfig(),
    SessionConfig(
        embedding_dim=128,
        item_dropout=0,
        input_dropout=0.1,
        output_dropout=0.2,
        ema_dropout=0.2,
        label_smoothing=0,
    ),
)
"""The default, and one with less regularisation, for sharper transitions than those of films."""


def read_log(config: LogConfig, repeats: Repeats) -> Split:
    log, _ = synthesise_log(config)
    if config.kind == "shop":
        log = log[log["event"] == "view"].drop(columns="event")
    return leave_last_out(read_ratings(log, repeats=repeats, histories="user"))


def fit_lstm(split: Split, runtime: Runtime) -> SessionModel:
    """The model of the best epoch of the best configuration, by validation."""
    best: tuple[float, SessionModel] | None = None
    for config in (config.resolve(len(split.train)) for config in CONFIGS):
        start = time.process_time()
        model = fit_session_model(
            split.train,
            config,
            item_embeddings=ppmi_embeddings(
                split.train, config.embedding_dim or 0, runtime=runtime
            ),
            runtime=runtime,
            validate=lambda model: {"ndcg_at_10": evaluate_metric(model, split)},
        )
        ndcg, seconds = evaluate_metric(model, split), time.process_time() - start
        changed = config.model_dump(exclude_defaults=True)
        print(f"validation NDCG@10 {ndcg:.4f}, {seconds:,.0f} s of CPU time: {changed}", flush=True)
        if best is None or ndcg > best[0]:
            best = ndcg, model
    assert best is not None
    return best[1]


def evaluate_all(split: Split, runtime: Runtime) -> dict[str, Report]:
    """Test reports of the session model as it is served, and of the baselines."""
    embeddings = fit_embeddings(count_cooccurrence(split.train), runtime=runtime)
    served = ItemScorer(embeddings, from_torch(fit_lstm(split, runtime)))
    reports = {"lstm": evaluate(served, split)}
    for name in default_baselines(split.train):
        fitted = fit_baseline(
            name,
            split.train,
            item_vectors=embeddings.vectors,
            runtime=runtime,
            validate=lambda model: evaluate_metric(model, split),
        )
        reports[name] = evaluate(fitted.model, split)
    return reports


def compare(reports: dict[str, Report], split: Split) -> pd.DataFrame:
    """One row per model, the best first."""
    ranks = {name: report.to_frame() for name, report in reports.items()}
    p = significance_table("lstm", ranks)["p_holm"]
    segments = segment_targets(split, "test")
    rows = {}
    for name, report in reports.items():
        rows[name] = {
            "HitRate@10": report.metrics["hit_rate_at_10"],
            "NDCG@10": report.metrics["ndcg_at_10"],
        }
        if "target" in segments:
            table = segment_metrics(report, {"target": segments["target"]})
            for segment, row in table.loc["target"].iterrows():
                rows[name][f"{segment} ({row['n_targets']:.0f})"] = row["ndcg_at_10"]
        rows[name]["p"] = p.get(name, float("nan"))
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    return table.sort_values("NDCG@10", ascending=False).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=["music", "shop"], default="music")
    parser.add_argument("--repeats", choices=get_args(Repeats), action="append")
    parser.add_argument("--users", type=int)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    n_users = given.users or N_USERS[given.kind]
    config = LogConfig(kind=given.kind, n_users=n_users, n_items=given.items, seed=given.seed)
    warnings.simplefilter("ignore")  # rows left out
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start", flush=True)
    for repeats in given.repeats or get_args(Repeats):
        split = read_log(config, repeats)
        reports = evaluate_all(split, Runtime(seed=given.seed))
        title = f"{given.kind}, repeats {repeats}: {len(split.interactions):,} interactions"
        print_table(compare(reports, split), title)


if __name__ == "__main__":
    main()
