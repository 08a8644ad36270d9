"""Time and peak memory of reading ratings, beside polars doing the same work.

    python benchmarks/read.py [--rows 5000000] [--rounds 3] [SHAPE ...]

The work on both sides: read the file; sort by user, time and order in the file; keep the latest row
of each user and item; and write the others, with their row or line numbers and the reason, to a
Parquet file. recsys also validates every value and encodes ids as indices, which polars does not.
Each read runs in a process of its own, in turn with the others. The best of the rounds is printed:
its seconds, and peak memory in addition to the imports.
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
import uuid
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

SHAPES = {
    "no repeats": {},
    "16 % repeats": {"repeats": 0.16},
    "92 % repeats": {"repeats": 0.92},
    "1M UUID users": {"n_users": 1_000_000, "users": "uuid"},
    "ISO times": {"times": "iso"},
    "ms integers": {"times": "ms"},
    "Parquet": {"suffix": ".parquet"},
}


def write_log(folder, rows, n_users=0, repeats=0.0, users="int", times="s", suffix=".csv"):
    """Write a log in order of time, and return its path."""
    import numpy as np
    import polars as pl

    n_users = min(n_users, rows // 5) or rows // 153
    n_items = max(rows // 424, 1_000)
    rng = np.random.default_rng(0)
    n_distinct = round(rows * (1 - repeats))
    drawn = np.unique(rng.integers(n_users * n_items, size=n_distinct * 3 // 2))
    pairs = rng.permutation(drawn)[:n_distinct]
    pairs = rng.permutation(np.append(pairs, rng.choice(pairs, rows - n_distinct)))
    milliseconds = np.sort(rng.integers(1_420_070_400_000, 1_577_836_800_000, rows))
    user, item = np.divmod(pairs, n_items)
    log = pl.DataFrame({"user_id": user, "item_id": item}).with_columns(
        rating=pl.Series(rng.integers(1, 11, rows) / 2), timestamp=pl.Series(milliseconds)
    )
    if users == "uuid":
        texts = [str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(n_users)]
        log = log.with_columns(user_id=pl.Series(texts).gather(log["user_id"]))
    if times == "s":
        log = log.with_columns(pl.col("timestamp") // 1000)
    elif times == "iso":
        moments = pl.from_epoch("timestamp", "ms").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        log = log.with_columns(timestamp=moments)
    path = folder / f"log{suffix}"
    (log.write_parquet if suffix == ".parquet" else log.write_csv)(path)
    return path


def read_recsys(path):
    """Return the rows used, seconds, and peak bytes in addition to the imports."""
    # Lazy imports happen before the clock starts, as for polars.
    import pyarrow.dataset
    import pyarrow.parquet  # noqa: F401

    import recsys.data.encoding  # noqa: F401
    from recsys.data import read_ratings

    warnings.simplefilter("ignore")
    before, start = peak(), time.perf_counter()
    ratings = read_ratings(path)
    return len(ratings), time.perf_counter() - start, peak() - before


def read_polars(path):
    """As `read_recsys`."""
    import polars as pl

    before, start = peak(), time.perf_counter()
    if path.suffix == ".csv":
        table = pl.read_csv(path, row_index_name="line", try_parse_dates=True)
    else:
        table = pl.read_parquet(path, row_index_name="line")
    # The fastest of five ways to do this.
    table = table.sort("timestamp", maintain_order=True)
    is_latest = table.select(pl.struct("user_id", "item_id").is_last_distinct()).to_series()
    latest = table.filter(is_latest)
    if latest.schema["user_id"].is_integer():
        latest = latest.sort("user_id", maintain_order=True)
    else:
        latest = latest.sort("user_id", "timestamp", "line")
    if not is_latest.all():
        reason = pl.lit("has a later row of the same user and item").alias("reason")
        removed = table.filter(~is_latest).with_columns(reason)
        removed.write_parquet(path.with_suffix(".removed"))
    return len(latest), time.perf_counter() - start, peak() - before


def peak():
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used * (1 if sys.platform == "darwin" else 1024)


def run_in_process(work, *arguments, **settings):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments, **settings).result()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=", ".join(SHAPES))
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, load "
        f"{os.getloadavg()[0]:.2f} at the start; {options.rows:,} rows, best of {options.rounds}\n"
        f"{'':>14}  recsys  polars  ratio    recsys    polars  ratio of peaks",
        flush=True,
    )
    for shape in options.shapes or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            path = run_in_process(write_log, Path(folder), options.rows, **SHAPES[shape])
            runs = [
                [run_in_process(read, path) for read in (read_recsys, read_polars)]
                for _ in range(options.rounds)
            ]
        if any(ours[0] != theirs[0] for ours, theirs in runs):
            sys.exit(
                f"{shape}: {runs[0][0][0]:,} rows are used, but polars keeps {runs[0][1][0]:,}"
            )
        seconds, theirs = (min(run[side][1] for run in runs) for side in (0, 1))
        used, theirs_used = (min(run[side][2] for run in runs) / 2**20 for side in (0, 1))
        print(
            f"{shape:>14} {seconds:>6.2f}s {theirs:>6.2f}s {seconds / theirs:>6.2f} "
            f"{used:>6,.0f} MiB {theirs_used:>5,.0f} MiB {used / theirs_used:>6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
