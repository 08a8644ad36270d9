"""The tests that need a GPU, and the speed of training on it, in at most six minutes.

    python benchmarks/gpu.py [path/to/ml-1m]
    python benchmarks/gpu.py --device cpu --users 300 --epochs 2 --rows 1000000  # a dry run

The session model is trained with the default configuration on MovieLens-1M, or on synthetic
ratings of its size, and evaluated on each user's last item. The embeddings are fitted to the
co-occurrence of synthetic ratings in the proportions of MovieLens 25M. For comparison, the CPU of
the same machine, with all its cores, trains on a part of the same data.

The floor of a step of the embeddings is the time to read X once: eight bytes for each non-zero, at
the speed at which the device copies memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import scipy.sparse as sp
import torch
from sessions import hold_out_last

import recsys
from recsys.config import Runtime
from recsys.data import Interactions
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings, write_parquet
from recsys.embeddings import ppmi_embeddings
from recsys.evaluation import evaluate
from recsys.sessions import SessionConfig, fit_session_model

ROOT = Path(__file__).parents[1]
CPU_USERS = 300  # whose histories the CPU trains on
CPU_STEPS = 3  # of the embeddings
COPIED = 2**30  # bytes copied to measure the bandwidth


class Clock:
    """A callback that records the metrics of each epoch and when it ended."""

    def __init__(self) -> None:
        self.times, self.metrics = [time.perf_counter()], [{}]

    def __call__(self, _epoch: int, metrics: Mapping[str, float]) -> None:
        self.times.append(time.perf_counter())
        self.metrics.append(dict(metrics))

    @property
    def epoch(self) -> float:
        """Seconds for an epoch after the first, the median."""
        return statistics.median(end - start for start, end in pairwise(self.times[1:]))


def movielens_like(path: Path | None, users: int) -> Interactions:
    """MovieLens-1M, or synthetic ratings of as many items and as long histories."""
    if path:
        return recsys.read_ratings(path)
    ratings, movies = synthesise_ratings(
        SyntheticConfig(n_users=users, n_items=3416, mean_events=165)
    )
    return recsys.read_ratings(ratings.merge(movies, on="item_id"))


def train(log: Interactions, device: str, precision: str, epochs: int) -> None:
    """Train to the end on the device, and compare its speed with that of the CPU."""
    split = hold_out_last(log)
    config = SessionConfig(epochs=epochs).resolve(len(split.train))
    started = time.perf_counter()
    vectors = ppmi_embeddings(split.train, config.embedding_dim or 0)
    print(f"\n{len(split.train):,} interactions, {log.n_items:,} items", flush=True)
    print(f"initial embeddings (on the CPU) {time.perf_counter() - started:.1f} s", flush=True)
    clock, runtime = Clock(), Runtime(device=device, precision=precision)
    model = fit_session_model(
        split.train, config, item_embeddings=vectors, runtime=runtime, on_epoch=clock
    )
    seconds, trained = since(clock.times[0]), clock.metrics[-1]
    metrics = evaluate(model, split, "validation").metrics
    print(
        f"{runtime.torch_precision()}, {epochs} epochs in {seconds}, "
        f"{trained['interactions_per_second']:,.0f} interactions/s, "
        f"loss {trained['train_loss']:.4f}, HitRate@10 {metrics['hit_rate_at_10']:.4f}, "
        f"NDCG@10 {metrics['ndcg_at_10']:.4f}",
        flush=True,
    )
    part = split.train.filter(split.train.user_index < CPU_USERS)
    print(f"\n| {len(part):,} interactions, batches of 32 | precision | interactions/s |")
    print("| --- | --- | --- |")
    config = SessionConfig(epochs=2, batch_size=32).resolve(len(split.train))
    for name, kind in ((device, "32-true"), (device, "bf16-mixed"), ("cpu", "auto")):
        clock, runtime = Clock(), Runtime(device=name, precision=kind)
        fit_session_model(part, config, item_embeddings=vectors, runtime=runtime, on_epoch=clock)
        speed = clock.metrics[-1]["interactions_per_second"]
        print(f"| {name} | {runtime.torch_precision()} | {speed:,.0f} |", flush=True)


def bandwidth(device: torch.device) -> float:
    """Bytes read and written per second when memory is copied."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * COPIED / min(seconds)


def embed(folder: Path, device: str, rows: int, dim: int) -> None:
    """Fit embeddings on the device, and compare a step with its floor and with the CPU."""
    started = time.perf_counter()
    n_items = min(max(rows // 424, 1_000), 200_000)
    write_parquet(folder, SyntheticConfig(n_users=rows // 153, n_items=n_items, mean_events=154))
    ratings = recsys.read_ratings(folder)
    print(f"\n{len(ratings):,} ratings generated and read in {since(started)}", flush=True)
    started = time.perf_counter()
    X = recsys.count_cooccurrence(ratings, None).matrix
    print(f"counted in {since(started)}: {X.shape[0]:,} items, {X.nnz:,} non-zeros", flush=True)
    print(f"\n| d = {dim} | first step, s | further steps, ms | floor, ms | loss / Σ X² |")
    print("| --- " * 5 + "|")
    for name, epochs in ((device, 40), ("cpu", CPU_STEPS)):
        print(f"| {name} | {fit_row(X, dim, Runtime(device=name), epochs)} |", flush=True)


def fit_row(X: sp.csr_array, dim: int, runtime: Runtime, epochs: int) -> str:
    config = recsys.EmbeddingConfig(dim=dim, epochs=epochs, tolerance=0.0, compute_optimum=False)
    clock = Clock()
    recsys.fit_embeddings(X, config, runtime=runtime, on_epoch=clock)
    floor = 8 * X.nnz / bandwidth(runtime.torch_device())
    loss = clock.metrics[-1]["relative_loss"]
    first = clock.times[1] - clock.times[0]
    return f"{first:.1f} | {1000 * clock.epoch:.1f} | {1000 * floor:.1f} | {loss:.3%} ({epochs})"


def since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ratings", nargs="?", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="auto", help="of the first training")
    parser.add_argument("--users", type=int, default=6040, help="of the synthetic log")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--rows", type=int, default=25_000_000, help="of the embeddings")
    parser.add_argument("--dim", type=int, default=32)
    given = parser.parse_args()
    name = torch.cuda.get_device_name() if given.device != "cpu" else "no GPU"
    print(f"{name}, {os.cpu_count()} cores, torch {torch.__version__}", flush=True)
    if given.device != "cpu":
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "gpu",
            str(ROOT / "tests/test_gpu.py"),
        ]
        subprocess.run(command, cwd=ROOT, check=False)
    train(movielens_like(given.ratings, given.users), given.device, given.precision, given.epochs)
    with tempfile.TemporaryDirectory() as folder:
        embed(Path(folder) / "ratings", given.device, given.rows, given.dim)


if __name__ == "__main__":
    main()
