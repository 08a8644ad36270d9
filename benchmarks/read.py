"""Speed of reading ratings, compared to polars.read_csv and a sort of the same file.

    python benchmarks/read.py [--rows 25000000] [--rounds 3]

The synthetic ratings have the proportions of MovieLens 25M and are written as MovieLens does (by
user and movie), as a log (by time), and as Parquet. Each read runs in a process of its own, in turn
with the others; the best of the rounds is printed. polars neither validates, nor encodes ids, nor
finds duplicates.
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
"""Bytes per row: user index, item index, rating, timestamp."""


def write_files(folder: Path, rows: int) -> dict[str, Path]:
    """Write the files and return them by name."""
    import polars as pl

    from recsys.data.synthetic import SyntheticConfig, write_parquet

    config = SyntheticConfig(
        n_users=max(rows // 153, 1),
        n_items=min(max(rows // 424, 1_000), 200_000),
        mean_events=154,
    )
    write_parquet(folder / "synthetic", config)
    ratings = pl.read_parquet(folder / "synthetic" / "ratings.parquet").rename(
        {"user_id": "userId", "item_id": "movieId"}
    )
    orders = {"by user and movie": ["userId", "movieId"], "by time": ["timestamp"]}
    files = {}
    for name, keys in orders.items():
        files[name] = folder / name.replace(" ", "-") / "ratings.csv"
        files[name].parent.mkdir()
        ratings.sort(keys, maintain_order=True).write_csv(files[name])
    return files | {"Parquet": folder / "synthetic" / "ratings.parquet"}


def read_recsys(path: Path) -> tuple[int, float, float]:
    """Return rows, seconds, and peak bytes in addition to the imports."""
    # Lazy imports happen before the clock starts, as for polars.
    import recsys.data.encoding  # noqa: F401
    from recsys.data import read_ratings

    before, start = peak(), time.perf_counter()
    ratings = read_ratings(path)
    return len(ratings), time.perf_counter() - start, peak() - before


def read_polars(path: Path) -> tuple[int, float, float]:
    """As `read_recsys`: read, and sort by user and time."""
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

    def run_in_process(work, *arguments):
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            return process.submit(work, *arguments).result()

    with tempfile.TemporaryDirectory() as folder:
        files = run_in_process(write_files, Path(folder), options.rows)
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the "
            f"start; best of {options.rounds}",
            flush=True,
        )
        print(f"{'':>18} {'rows':>11} {'recsys':>7} {'polars':>7} {'ratio':>6} {'peak':>17}")
        for name, path in files.items():
            runs = [
                (run_in_process(read_recsys, path), run_in_process(read_polars, path))
                for _ in range(options.rounds)
            ]
            rows = runs[0][0][0]
            ours, peer = (min(run[side][1] for run in runs) for side in (0, 1))
            used = min(run[0][2] for run in runs)
            print(
                f"{name:>18} {rows:>11,} {ours:>6.2f}s {peer:>6.2f}s {ours / peer:>6.2f} "
                f"{used / 2**30:>5.2f} GiB = {used / (rows * ARRAY_BYTES):.1f} x",
                flush=True,
            )


if __name__ == "__main__":
    main()
