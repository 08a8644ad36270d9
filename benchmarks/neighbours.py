"""Time and recall of exact and approximate nearest neighbours of all items.

    python benchmarks/neighbours.py --items 250000

Synthetic vectors around a thousand centres, with varying lengths; the ten nearest by cosine. Exact
search is timed on every hundredth item, and recall is measured on those. Uses OMP_NUM_THREADS
threads, one by default; times are CPU seconds.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from recsys.embeddings.neighbours import approximate_knn, knn, recall

EVERY = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=250_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    centres = random.normal(size=(1000, options.dim))[random.integers(0, 1000, options.items)]
    vectors = centres + 0.7 * random.normal(size=centres.shape)
    vectors = (vectors * random.lognormal(size=(options.items, 1))).astype(np.float32)
    rows = np.arange(0, options.items, EVERY)

    start = time.process_time()
    exact, _ = knn(vectors[rows], vectors, options.k, exclude_BE=rows[:, None])
    exact_seconds = (time.process_time() - start) * EVERY
    print(f"exact: {exact_seconds:.0f} s, from every {EVERY}th", flush=True)
    start = time.process_time()
    (found, _), sample_recall = approximate_knn(vectors, options.k)
    seconds = time.process_time() - start
    found_recall = recall(found[rows], exact)
    print(f"approximate: {seconds:.0f} s, {exact_seconds / seconds:.1f} times faster")
    print(f"recall {found_recall:.4f}, and {sample_recall:.4f} on the tuning sample", flush=True)


if __name__ == "__main__":
    main()
