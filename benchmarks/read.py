"""How fast ratings are read, beside polars.read_csv and a sort of the same file.

    python benchmarks/read.py [--rows 25000000] [--rounds 3]

The ratings are made up in the proportions of MovieLens 25M and written as MovieLens writes them
(by user and movie), as one long log (by time), and as Parquet. Each reading is done in a process
of its own, in turn with the others; the best of the rounds is told. What polars does is less: it
neither checks, nor gives ids dense indices, nor looks for repeated rows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ARRAY_BYTES = 4 + 4 + 4 + 8
"""Of a row: user index, item index, rating, timestamp."""


def make(folder: Path, rows: int) -> dict[str, Path]:
    """Write the files; give them by name."""
    import polars as pl

    from recsys.data.synthetic import SyntheticConfig, write_parquet

    config = SyntheticConfig(
        n_users=max(rows // 153, 1),
        n_items=min(max(rows // 424, 1_000), 200_000),
        mean_events=154,
    )
    write_parquet(folder / "made", config)
    ratings = pl.read_parquet(folder / "made" / "ratings.parquet").rename(
        {"user_id": "userId", "item_id": "movieId"}
    )
    orders = {"by user and movie": ["userId", "movieId"], "by time": ["timestamp"]}
    files = {}
    for name, keys in orders.items():
        files[name] = folder / name.replace(" ", "-") / "ratings.csv"
        files[name].parent.mkdir()
        ratings.sort(keys, maintain_order=True).write_csv(files[name])
    return files | {"Parquet": folder / "made" / "ratings.parquet"}


def read_ours(path: Path) -> tuple[int, float, float]:
    """Rows, seconds, and peak bytes above what the imports took."""
    # What is imported when it is first needed is imported first, as is polars.
    from recsys.data import read_ratings

    before, start = peak(), time.perf_counter()
    ratings = read_ratings(path)
    return len(ratings), time.perf_counter() - start, peak() - before


def read_polars(path: Path) -> tuple[int, float, float]:
    """As `read_ours`; read and sorted by user and time, as histories need to be."""
    import polars as pl

    before, start = peak(), time.perf_counter()
    is_csv = path.suffix == ".csv"
    table = pl.read_csv(path) if is_csv else pl.read_parquet(path)
    ordered = table.sort(["userId" if is_csv else "user_id", "timestamp"], maintain_order=True)
    return len(ordered), time.perf_counter() - start, peak() - before


def peak() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used * (1.0 if sys.platform == "darwin" else 1024.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=25_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")

    def alone(work, *arguments):
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            return process.submit(work, *arguments).result()

    with tempfile.TemporaryDirectory() as folder:
        files = alone(make, Path(folder), options.rows)
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the "
            f"start; best of {options.rounds}",
            flush=True,
        )
        print(f"{'':>18} {'rows':>11} {'ours':>7} {'polars':>7} {'ratio':>6} {'peak':>17}")
        for name, path in files.items():
            runs = [
                (alone(read_ours, path), alone(read_polars, path)) for _ in range(options.rounds)
            ]
            rows = runs[0][0][0]
            ours, theirs = (min(run[side][1] for run in runs) for side in (0, 1))
            used = min(run[0][2] for run in runs)
            print(
                f"{name:>18} {rows:>11,} {ours:>6.2f}s {theirs:>6.2f}s {ours / theirs:>6.2f} "
                f"{used / 2**30:>5.2f} GiB = {used / (rows * ARRAY_BYTES):.1f} x",
                flush=True,
            )


if __name__ == "__main__":
    main()
