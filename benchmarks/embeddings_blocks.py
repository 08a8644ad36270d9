"""How fast each optimizer approaches the optimum with counts on disk.

    python benchmarks/embeddings_blocks.py --rows 25000000 [--folder FOLDER] [--only adam]

Synthetic ratings in the proportions of MovieLens 25M are counted into row blocks on disk. The
embeddings are fitted to them on one thread; every pass reads all blocks. Each method ends at its
budget. The optimum is computed from the same blocks and not included in the times.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from embeddings import FITS as ALL_FITS
from embeddings import GAPS, BudgetSpentError

import recsys
from recsys.cooccurrence import CooccurrenceBlocks, open_blocks
from recsys.data.synthetic import SyntheticConfig, write_parquet

ONE_CORE = recsys.Runtime(device="cpu", threads=1, memory_limit="1GB")  # less than X needs
RATINGS_PER_USER = 154
FITS = {name: fit for name, fit in ALL_FITS.items() if "batch_rows" not in fit}
"""Methods that do not sample rows, which needs the matrix in memory."""


class Stopwatch:
    """Prints elapsed time and peak memory."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @property
    def cpu(self) -> float:
        return time.process_time() - self._cpu

    def report(self, what: str) -> None:
        wall = time.perf_counter() - self._wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{what}: {wall:.1f} s ({self.cpu:.1f} s of CPU), peak {peak:.2f} GiB", flush=True)


def synthesise(folder: Path, rows: int) -> Path:
    """In the proportions of `benchmarks/synthetic.py`."""
    config = SyntheticConfig(
        n_users=max(rows // (RATINGS_PER_USER - 1), 1),
        n_items=min(max(rows // 424, 1_000), 200_000),
        mean_events=RATINGS_PER_USER,
    )
    write_parquet(folder / "ratings", config)
    return folder / "ratings"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--min-rating", type=float, help="minimum rating of a positive")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds of CPU for each fit")
    parser.add_argument("--only", action="append", choices=FITS, metavar="METHOD")
    parser.add_argument(
        "--folder", type=Path, help="keep the counts in, and reuse them from, this folder"
    )
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at start")
    with tempfile.TemporaryDirectory() as temporary:
        compare(counted(options.folder or Path(temporary), options), options)


def counted(folder: Path, options: argparse.Namespace) -> CooccurrenceBlocks:
    """Open the counts on disk; create them if they do not exist."""
    if not (folder / "counts").exists():
        clock = Stopwatch()
        ratings = recsys.read_ratings(synthesise(folder, options.rows))
        clock.report(f"{len(ratings):,} ratings generated and read")
        clock = Stopwatch()
        recsys.count_cooccurrence(
            ratings,
            options.min_rating,
            memory_limit="1GB",
            folder=folder / "counts",
            runtime=ONE_CORE,
        )
        clock.report("counted")
    blocks = open_blocks(folder / "counts")
    disk = sum(file.stat().st_size for file in blocks.folder.iterdir()) / 2**30
    print(f"{blocks.n_items:,} items, {blocks.n_entries:,} non-zeros, {disk:.2f} GiB on disk")
    return blocks


def compare(blocks: CooccurrenceBlocks, options: argparse.Namespace) -> None:
    """Fit by each method, then compare the losses with the optimum."""
    losses: dict[str, list[tuple[float, float]]] = {}
    for name in options.only or FITS:
        clock = Stopwatch()
        reached = losses[name] = []

        def on_epoch(
            epoch: int, metrics: dict[str, float], name=name, reached=reached, clock=clock
        ) -> None:
            reached.append((metrics["loss"], clock.cpu))
            clock.report(f"{name}, epoch {epoch}: {metrics['relative_loss']:.4%} of Σ X²")
            if clock.cpu > options.budget:
                raise BudgetSpentError

        config = recsys.EmbeddingConfig(
            dim=options.dim, epochs=5000, tolerance=0.0, compute_optimum=False, **FITS[name]
        )
        with contextlib.suppress(BudgetSpentError):
            recsys.fit_embeddings(blocks, config, runtime=ONE_CORE, on_epoch=on_epoch)
    clock = Stopwatch()
    optimum = recsys.spectral_optimum(blocks, options.dim, runtime=ONE_CORE, tolerance=1e-4)
    clock.report(f"optimum {optimum.loss:.6g} in {optimum.n_iter} iterations")
    print("| method | 10 %: s of CPU (epochs) | 1 % | 0.1 % | closest |\n" + "| --- " * 5 + "|")
    for name, reached in losses.items():
        print(f"| {name} | {row(reached, optimum.loss)} |")


def row(reached: list[tuple[float, float]], optimum: float) -> str:
    """When the loss first came within each gap of the optimum."""
    cells = []
    for gap in GAPS:
        closed = [i for i, (loss, _) in enumerate(reached) if loss <= (1 + gap) * optimum]
        cells.append(f"{reached[closed[0]][1]:.0f} ({closed[0] + 1})" if closed else "–")
    nearest = min(loss for loss, _ in reached) / optimum - 1
    return f"{' | '.join(cells)} | {nearest:.2%}"


if __name__ == "__main__":
    main()
