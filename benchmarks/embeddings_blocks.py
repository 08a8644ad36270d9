"""How long a fit takes whose counts lie on disk, and in how much memory.

    python benchmarks/embeddings_blocks.py --rows 25000000 --min-rating 4

Made-up ratings in the proportions of MovieLens 25M are counted into a temporary folder, block of
rows by block of rows; then the embeddings are fitted from there, on one thread, every pass reading
the blocks anew. The best attainable loss comes from the same blocks, after the fit and outside its
time; `--no-optimum` leaves it out.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import recsys
from recsys.data.synthetic import SyntheticConfig, write_parquet

ONE_CORE = recsys.Runtime(device="cpu", threads=1)
RATINGS_PER_USER = 154


class Clock:
    """Says how long each stage took, and the peak of memory until then."""

    def __init__(self) -> None:
        self.lap()

    def lap(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def tell(self, what: str) -> None:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{what}: {wall:.1f} s ({cpu:.1f} s of CPU), peak {peak:.2f} GiB", flush=True)


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
    parser.add_argument("--min-rating", type=float, help="lowest rating that counts as liked")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--no-optimum", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at start")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    clock = Clock()
    ratings = recsys.read_ratings(synthesise(folder, options.rows))
    clock.tell(f"{len(ratings):,} ratings made and read")
    clock.lap()
    blocks = recsys.count_cooccurrence(
        ratings, options.min_rating, memory_limit="1GB", folder=folder / "counts", runtime=ONE_CORE
    )
    del ratings
    disk = sum(file.stat().st_size for file in blocks.folder.iterdir()) / 2**30
    items, entries = blocks.n_items, blocks.n_entries
    clock.tell(f"{items:,} items, {entries:,} non-zeros counted, {disk:.2f} GiB on disk")
    losses: list[tuple[float, float]] = []

    def note(epoch: int, metrics: dict[str, float]) -> None:
        losses.append((metrics["loss"], time.perf_counter() - clock.wall))
        clock.tell(f"epoch {epoch}, {metrics['relative_loss']:.4%} of Σ X²")

    clock.lap()
    config = recsys.EmbeddingConfig(
        dim=options.dim, epochs=options.epochs, compare_to_optimum=False
    )
    recsys.fit_embeddings(blocks, config, runtime=ONE_CORE, on_epoch=note)
    clock.tell("fitted")
    if options.no_optimum:
        return
    clock.lap()
    optimum = recsys.spectral_optimum(blocks, options.dim, runtime=ONE_CORE, tolerance=1e-4)
    clock.tell(f"optimum in {optimum.rounds} rounds")
    for gap in (0.1, 0.01, 0.001):
        for epoch, (loss, seconds) in enumerate(losses, start=1):
            if loss <= (1 + gap) * optimum.loss:
                print(f"within {gap:.1%} after {epoch} epochs, {seconds:.1f} s", flush=True)
                break
    print(f"at the end {losses[-1][0] / optimum.loss - 1:.3%} above the optimum", flush=True)


if __name__ == "__main__":
    main()
