"""Time, memory and disk of each stage of a training, on synthetic ratings of any size.

    python benchmarks/scale.py FOLDER [--users 200000 --items 84000 --events 160]

Each stage runs in a process of its own, as `recsys train` runs it, and leaves its result in FOLDER.
Stages that are named with `--only` take up what earlier ones have left. The session model is
trained for one epoch on `--session` interactions; the time of a whole training is extrapolated.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import recsys
from recsys import cooccurrence as co
from recsys import embeddings as emb
from recsys import evaluation as ev
from recsys.baselines import fit_baseline
from recsys.callbacks import History
from recsys.data import Split, leave_last_out, load_interactions, save_interactions
from recsys.data.synthetic import SyntheticConfig, write_parquet
from recsys.recommender.bundle import N_NEIGHBOURS, PairCounts
from recsys.sessions import SessionConfig, SessionModel, fit_session_model

BASELINES = ("popularity", "markov", "item-knn", "als", "mean-embedding")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=84_000)
    parser.add_argument("--events", type=int, default=160, help="ratings per user")
    parser.add_argument("--session", type=int, default=5_000_000, help="interactions of the epoch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-limit", help="runtime.memory_limit")
    parser.add_argument("--only", action="append", choices=STAGES, metavar="STAGE")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        STAGES[given.stage](given)
        return
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at start\n")
    print("| stage | s | s of CPU | peak GB | GB on disk | |\n" + "| --- " * 6 + "|", flush=True)
    for name in given.only or STAGES:
        measure(name, given.folder)


def measure(name: str, folder: Path) -> None:
    """Run a stage in a process of its own, and print a row of the table."""
    command = [sys.executable, __file__, *sys.argv[1:], "--stage", name]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        note = " ".join(process.stdout.read().split())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9
    note = note if process.returncode == 0 else f"failed: {process.returncode}"
    peak = usage.ru_maxrss * 1024 / 1e9
    print(f"| {name} | {seconds:.0f} | {cpu:.0f} | {peak:.2f} | {disk:.2f} | {note} |", flush=True)


def runtime(given: argparse.Namespace) -> recsys.Runtime:
    return recsys.Runtime(device="cpu", threads=given.threads, memory_limit=given.memory_limit)


def split_of(given: argparse.Namespace) -> Split:
    return leave_last_out(load_interactions(given.folder / "interactions"))


def synthesise(given: argparse.Namespace) -> None:
    config = SyntheticConfig(n_users=given.users, n_items=given.items, mean_events=given.events)
    write_parquet(given.folder / "ratings", config)


def read(given: argparse.Namespace) -> None:
    ratings = recsys.read_ratings(given.folder / "ratings")
    save_interactions(ratings, given.folder / "interactions")
    print(f"{len(ratings):,} ratings, {ratings.n_users:,} users, {ratings.n_items:,} items")


def count(given: argparse.Namespace) -> None:
    split, own = split_of(given), runtime(given)
    folder, limit = given.folder / "counts", own.memory_limit
    counts = recsys.count_cooccurrence(
        split.positives, memory_limit=limit, folder=folder, runtime=own
    )
    print(f"{counts.n_entries:,} non-zeros, {counts.summary()['density']:.1%}")


def embed(given: argparse.Namespace) -> None:
    history, counts = History(), co.open_blocks(given.folder / "counts")
    fitted = recsys.fit_embeddings(counts, runtime=runtime(given), on_epoch=history)
    emb.save_embeddings(fitted, history, given.folder / "embeddings")
    print(f"{len(history.epochs)} epochs, loss / optimum {fitted.loss_ratio:.4f}")


def bundle(given: argparse.Namespace) -> None:
    counts = co.open_blocks(given.folder / "counts")
    vectors, _ = emb.load_embeddings(given.folder / "embeddings", counts.items)
    vectors.neighbours(N_NEIGHBOURS)
    pairs = PairCounts.from_cooccurrence(counts)
    print("the largest counts and the neighbours of each item", "" if pairs else "(none)")


def ppmi(given: argparse.Namespace) -> None:
    train = split_of(given).train
    dim = SessionConfig().resolve(len(train)).embedding_dim or 0
    vectors = recsys.ppmi_embeddings(train, dim, runtime=runtime(given))
    np.save(given.folder / "vectors.npy", vectors)
    print("{} vectors of {}".format(*vectors.shape))


def session(given: argparse.Namespace) -> None:
    split = split_of(given)
    log = split.interactions
    n_all = len(split.train)
    n_users = min(round(log.n_users * given.session / n_all), log.n_users)
    users = np.random.default_rng(0).permutation(log.n_users) < n_users
    split = leave_last_out(log.filter(users[log.user_index]))
    full = SessionConfig().resolve(n_all)
    config = full.model_copy(update={"epochs": 1})
    took: dict[str, float] = {}

    def validate(model: SessionModel) -> dict[str, float]:
        began = time.perf_counter()
        metric = ev.PRIMARY_METRIC
        mean, error = ev.estimate_metric(
            model, split, "validation", metric, max_users=config.validation_users
        )
        took["validation"] = time.perf_counter() - began
        return {metric: mean, "error": error}

    history = History()
    fit_session_model(
        split.train,
        config,
        item_embeddings=np.load(given.folder / "vectors.npy"),
        runtime=runtime(given),
        on_epoch=history,
        validate=validate,
    )
    (metrics,) = history.epochs.values()
    epoch = len(split.train) / metrics["interactions_per_second"]
    whole = (full.epochs or 0) * (n_all / metrics["interactions_per_second"] + took["validation"])
    print(
        f"{len(split.train):,} interactions: an epoch of {epoch:,.0f} s, validation "
        f"{took['validation']:.0f} s, NDCG@10 {metrics[ev.PRIMARY_METRIC]:.4f} ± "
        f"{metrics['error']:.4f}; {full.epochs} epochs of {n_all:,}: {whole / 3600:.1f} h"
    )


def baseline(name: str) -> Callable[[argparse.Namespace], None]:
    """Tune a baseline on a sample of the users, and evaluate it on all targets."""

    def run(given: argparse.Namespace) -> None:
        split = split_of(given)
        vectors = None
        if name == "mean-embedding":
            found, _ = emb.load_embeddings(given.folder / "embeddings", split.interactions.items)
            vectors = found.vectors
        max_users = SessionConfig().validation_users
        fitted = fit_baseline(
            name,
            split.train,
            item_vectors=vectors,
            runtime=runtime(given),
            validate=lambda model: ev.estimate_metric(model, split, max_users=max_users).mean,
        )
        subsets = ("validation", "test")
        metrics = [ev.evaluate(fitted.model, split, subset).metrics for subset in subsets]
        print("NDCG@10 {:.4f}, {:.4f}".format(*(each[ev.PRIMARY_METRIC] for each in metrics)))

    return run


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "synthesise": synthesise,
    "read": read,
    "count": count,
    "ppmi": ppmi,
    "session": session,
    "embed": embed,
    "bundle": bundle,
    **{name: baseline(name) for name in BASELINES},
}

if __name__ == "__main__":
    main()
