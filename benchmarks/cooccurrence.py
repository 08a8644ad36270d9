"""Speed and memory of co-occurrence counting, compared with other libraries.

    python benchmarks/cooccurrence.py [--data ml-1m] [--rows 1000000 --rows 25000000] [--skip scipy]
    python benchmarks/cooccurrence.py --growth   # row blocks, from a million to 100 million ratings

Data: MovieLens 1M from `data/ml-1m` or `../shared/data/ml-1m`, skipped if neither exists, and
synthetic ratings in the proportions of MovieLens 25M. Every rating is positive. Each method runs in
a process of its own, one after the other; its peak memory includes Python, the libraries and the
data. Times are the best of the repeats and cover only the counting, from interactions or (scipy,
implicit) from a user × item matrix that is made in advance. numba has compiled its functions in
advance. Above a billion pairs, scipy counts only every eighth row, and its time is multiplied.
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
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
SIZES = (100_000, 1_000_000, 5_000_000, 25_000_000)
RATINGS_PER_USER = 154
NEIGHBOURS = 100
FITS_IN_MEMORY = 300_000_000
"""Most entries of X that are also counted into memory as a whole."""
SCIPY_ROWS = 1000
"""Rows of a block of scipy's product."""
SCIPY_PAIRS = 10**9
"""With more pairs, scipy counts only a sample of the rows."""
SCIPY_SHARE = 8
"""The sample is one row in this number."""
GROWTH = (1_000_000, 5_000_000, 25_000_000, 100_000_000)
FITS_A_JOIN = 100_000_000
"""Pairs of interactions up to which a self-join is tried."""


def load(path: Path) -> Any:
    import pandas as pd

    from recsys.data import Interactions
    from recsys.vocabulary import Vocabulary

    arrays = np.load(path)
    offsets = arrays["user_offsets"]
    n_users, n_items = len(offsets) - 1, int(arrays["n_items"])
    return Interactions(
        user_index=np.repeat(np.arange(n_users, dtype=np.int32), np.diff(offsets)),
        item_index=arrays["item_index"],
        rating=None,
        timestamp=None,
        user_offsets=offsets,
        users=Vocabulary(np.arange(n_users)),
        items=Vocabulary(np.arange(n_items)),
        catalogue=pd.DataFrame(),
    )


def user_items(path: Path) -> Any:
    """The user × item matrix with 32-bit indices: implicit accepts no others, scipy is faster."""
    matrix = load(path).user_item_matrix()
    matrix.indices = matrix.indices.astype(np.int32)
    matrix.indptr = matrix.indptr.astype(np.int32)
    return matrix


def entries_and_sum(block: Any) -> tuple[int, int]:
    return block.matrix.nnz, int(block.matrix.data.sum(dtype=np.int64))


def by_matrix(path: Path) -> Callable[[], tuple[int, int]]:
    from recsys.cooccurrence import count_cooccurrence

    interactions = load(path)

    def count() -> tuple[int, int]:
        matrix = count_cooccurrence(interactions).matrix
        return matrix.nnz, int(matrix.data.sum(dtype=np.int64))

    return count


def by_blocks(path: Path) -> Callable[[], tuple[int, int]]:
    from recsys.cooccurrence.planner import plan_count

    interactions = load(path)

    def count() -> tuple[int, int]:
        plan = plan_count(interactions, None)
        entries, total = np.array(list(plan.map_blocks(entries_and_sum))).sum(axis=0).tolist()
        return entries, total

    return count


def to_disk(path: Path) -> Callable[[], tuple[int, int]]:
    from recsys.cooccurrence import count_cooccurrence

    interactions = load(path)

    def count() -> tuple[int, int]:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            blocks = count_cooccurrence(interactions, folder=Path(folder) / "counts")
            return blocks.n_entries, int(blocks.row_sums.sum())

    return count


def to_neighbours(path: Path) -> Callable[[], None]:
    from recsys.cooccurrence import count_neighbours

    interactions = load(path)
    return lambda: discard(count_neighbours(interactions, NEIGHBOURS))


def by_scipy(path: Path) -> Callable[[], tuple[int, int]]:
    user_item = user_items(path)

    def count() -> tuple[int, int]:
        matrix = (user_item.T @ user_item).tocsr()
        matrix.setdiag(0)
        matrix.eliminate_zeros()
        return matrix.nnz, int(matrix.data.sum(dtype=np.int64))

    return count


def by_scipy_blocks(path: Path, every: int = 1) -> Callable[[], tuple[int, int] | None]:
    user_item = user_items(path)
    item_user = user_item.T.tocsr()[
        ::every
    ]  # not consecutive rows: neighbouring ids may be similar

    def count() -> tuple[int, int] | None:
        entries, total = 0, 0
        for start in range(0, item_user.shape[0], SCIPY_ROWS):
            block = item_user[start : start + SCIPY_ROWS] @ user_item
            if every == 1:
                block.setdiag(0, k=start)
                block.eliminate_zeros()
            entries += block.nnz
            total += int(block.data.sum(dtype=np.int64))
        return (entries, total) if every == 1 else None

    return count


def by_implicit(path: Path) -> Callable[[], None]:
    import scipy.sparse as sp
    from implicit.nearest_neighbours import all_pairs_knn

    user_item = sp.csr_matrix(user_items(path), dtype=np.float64)
    threads = len(os.sched_getaffinity(0))
    return lambda: discard(
        all_pairs_knn(user_item, K=NEIGHBOURS, num_threads=threads, show_progress=False)
    )


def by_polars(path: Path) -> Callable[[], tuple[int, int]]:
    import polars as pl

    interactions = load(path)
    events = pl.DataFrame({"user": interactions.user_index, "item": interactions.item_index})

    def count() -> tuple[int, int]:
        pairs = events.lazy().unique().join(events.lazy().unique(), on="user")
        counts = pairs.filter(pl.col("item") != pl.col("item_right"))
        found = counts.group_by("item", "item_right").len().collect(engine="streaming")
        return found.height, int(found["len"].cast(pl.Int64).sum())

    return count


def discard(_result: object) -> None:
    return None


METHODS: dict[str, Callable[[Path], Callable[[], tuple[int, int] | None]]] = {
    "scipy": by_scipy,
    "scipy-blocks": by_scipy_blocks,
    "polars": by_polars,
    "implicit": by_implicit,
    "matrix": by_matrix,
    "blocks": by_blocks,
    "disk": to_disk,
    "neighbours": to_neighbours,
}
LABELS = {
    "scipy": "scipy `X.T @ X`",
    "scipy-blocks": "scipy, row blocks, discarded",
    "polars": "polars self-join",
    "implicit": f"implicit `all_pairs_knn`, top {NEIGHBOURS}",
    "matrix": "**recsys**, matrix in memory",
    "blocks": "**recsys**, row blocks, discarded",
    "disk": "**recsys**, row blocks to disk",
    "neighbours": f"**recsys**, top {NEIGHBOURS} by cosine",
}


class Measured(NamedTuple):
    seconds: float
    cpu: float
    peak: float


def measure(
    method: str, path: Path, repeats: int, every: int = 1
) -> tuple[Measured, tuple[int, int] | None]:
    """Fewest seconds and CPU seconds, peak GiB, and number and sum of the entries.

    scipy counts every `every`-th row, and its time is multiplied by `every`.
    """
    count = METHODS[method](path) if every == 1 else by_scipy_blocks(path, every)
    if method in ("matrix", "blocks", "disk", "neighbours"):
        compile_in_advance()
    best, found = Measured(float("inf"), float("inf"), 0.0), None
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        found = count()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        gib = peak / (2**30 if sys.platform == "darwin" else 2**20)
        best = Measured(min(seconds * every, best.seconds), min(cpu * every, best.cpu), gib)
    return best, found


def measure_in_process(
    method: str, path: Path, repeats: int, every: int = 1
) -> tuple[Measured, tuple[int, int] | None]:
    """Measure in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as alone:
        return alone.submit(measure, method, path, repeats, every).result()


def compile_in_advance() -> None:
    import pandas as pd

    from recsys.cooccurrence import count_neighbours
    from recsys.data import read_ratings

    log = pd.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [1, 2, 1, 2]})
    count_neighbours(read_ratings(log, on_report=discard), k=1)


def save(path: Path, user: Any, item: Any) -> dict[str, int]:
    """Save interactions of users and items numbered from zero, users in order."""
    lengths = np.bincount(user)
    n_items = int(item.max()) + 1
    np.savez(
        path,
        user_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        item_index=item.astype(np.int32),
        n_items=n_items,
    )
    pairs = int((lengths.astype(np.int64) ** 2).sum())
    return {"rows": len(item), "users": len(lengths), "items": n_items, "pairs": pairs}


def save_movielens(path: Path) -> dict[str, int] | None:
    from recsys.data import read_ratings

    for folder in (ROOT / "data" / "ml-1m", ROOT.parent / "shared" / "data" / "ml-1m"):
        if folder.is_dir():
            ratings = read_ratings(folder)
            return save(path, ratings.user_index, ratings.item_index)
    return None


def save_synthetic(path: Path, rows: int) -> dict[str, int]:
    import pyarrow.parquet as pq

    from recsys.data.synthetic import SyntheticConfig, write_parquet

    config = SyntheticConfig(
        n_users=max(rows // (RATINGS_PER_USER - 1), 1),
        n_items=min(max(rows // 424, 1_000), 200_000),
        mean_events=RATINGS_PER_USER,
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        write_parquet(Path(folder) / "ratings", config)
        file = pq.ParquetFile(Path(folder) / "ratings" / "ratings.parquet")
        user = np.empty(file.metadata.num_rows, np.int32)
        item, at = np.empty_like(user), 0
        for batch in file.iter_batches(columns=["user_id", "item_id"]):
            part = slice(at, at := at + len(batch))
            user[part], item[part] = (column.to_numpy() for column in batch.columns)
    rated = np.bincount(item) > 0  # ids are small numbers, users come in order
    item = (rated.cumsum(dtype=np.int32) - 1)[item]
    return save(path, user - user.min(), item)


def compare(name: str, path: Path, stats: dict[str, int], skip: list[str]) -> None:
    repeats = 5 if stats["pairs"] < 10**9 else 3
    shape = f"{stats['rows']:,} ratings, {stats['users']:,} users, {stats['items']:,} items"
    print(f"\n### {name}: {shape}\n", flush=True)
    heads = ["method", "seconds", "× scipy", "CPU s", "× scipy", "peak GiB", "entries", "load"]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}", flush=True)
    by_product: Measured | None = None
    reference: tuple[int, int] | None = None
    for method, label in LABELS.items():
        too_large = (method == "polars" and stats["pairs"] > FITS_A_JOIN) or (
            method in ("scipy", "matrix")
            and min(stats["pairs"], stats["items"] ** 2) > FITS_IN_MEMORY
        )
        if method in skip or too_large:
            continue
        every = SCIPY_SHARE if method == "scipy-blocks" and stats["pairs"] > SCIPY_PAIRS else 1
        timing, found = measure_in_process(method, path, repeats, every)
        reference = reference or found
        if found not in (None, reference):
            raise SystemExit(f"{label} counts {found}, not {reference}")
        by_product = timing if by_product is None and method.startswith("scipy") else by_product
        ratios = ["", ""]
        if by_product is not None:
            ratios = [f"{by_product[field] / timing[field]:.1f}" for field in (0, 1)]
        entries = "" if found is None else f"{found[0]:,}"
        cells = [label, f"{timing.seconds:.2f}", ratios[0], f"{timing.cpu:.2f}", ratios[1]]
        cells += [f"{timing.peak:.2f}", entries, f"{os.getloadavg()[0]:.1f}"]
        row = f"| {' | '.join(cells)} |"
        print(row, flush=True)


def grow(path: Path) -> None:
    """How the cost of counting grows with the number of ratings."""
    heads = ["ratings", "users", "items", "pairs", "seconds", "ns a pair", "peak GiB"]
    print(f"\n| {' | '.join(heads)} |\n|{' --- |' * len(heads)}", flush=True)
    for rows in GROWTH:
        stats = save_synthetic(path, rows)
        timing, _ = measure_in_process("blocks", path, 3 if rows < GROWTH[-1] else 1)
        pairs = stats["pairs"] - stats["rows"]
        cells = [f"{stats[name]:,}" for name in ("rows", "users", "items")] + [f"{pairs:,}"]
        cells += [
            f"{timing.seconds:.2f}",
            f"{timing.seconds / pairs * 1e9:.2f}",
            f"{timing.peak:.2f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=["ml-1m", "synthetic"], help="only this data")
    parser.add_argument("--rows", type=int, action="append", help="may be given several times")
    parser.add_argument("--growth", action="store_true", help="only how the cost grows")
    parser.add_argument(
        "--skip", choices=METHODS, action="append", default=[], help="method to skip"
    )
    options = parser.parse_args()
    print(f"{machine()}; load {os.getloadavg()[0]:.2f} at the start", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "interactions.npz"
        if options.growth:
            grow(path)
            return
        if options.data != "synthetic":
            stats = save_movielens(path)
            if stats is None:
                print("\nMovieLens 1M was not found: skipped", flush=True)
            else:
                compare("MovieLens 1M", path, stats, options.skip)
        if options.data != "ml-1m":
            for rows in options.rows or SIZES:
                stats = save_synthetic(path, rows)
                compare(f"Synthetic, {rows:,}", path, stats, options.skip)


if __name__ == "__main__":
    main()
