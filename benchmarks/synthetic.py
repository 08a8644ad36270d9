"""Speed and memory of generating synthetic ratings.

    python benchmarks/synthetic.py [--rows 100000 --rows 1000000 --rows 25000000]

Each size runs in a process of its own and is written as Parquet to a temporary folder. Users and
items have the proportions of MovieLens 25M.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

SIZES = (100_000, 1_000_000, 25_000_000)
RATINGS_PER_USER = 154


def measure(rows: int) -> tuple[int, float, float]:
    """Generate about `rows` ratings; return their number, seconds, and peak GiB."""
    start = time.perf_counter()
    from recsys.data.synthetic import SyntheticConfig, write_parquet

    n_ratings = 0.0

    def count(_block: int, metrics: Mapping[str, float]) -> None:
        nonlocal n_ratings
        n_ratings = metrics["ratings"]

    config = SyntheticConfig(
        n_users=max(rows // (RATINGS_PER_USER - 1), 1),
        n_items=min(max(rows // 424, 1_000), 200_000),
        mean_events=RATINGS_PER_USER,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(Path(folder) / "ratings", config, count)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(n_ratings), seconds, peak / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append", help="can be repeated")
    sizes = parser.parse_args().rows or SIZES
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start", flush=True)
    print(f"{'rows':>12} {'seconds':>8} {'rows/s':>10} {'peak GiB':>9}", flush=True)
    spawn = multiprocessing.get_context("spawn")
    for rows in sizes:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            n, seconds, peak = pool.submit(measure, rows).result()
        print(
            f"{n:>12,} {seconds:>8.1f} {n / seconds:>10,.0f} {peak:>9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
