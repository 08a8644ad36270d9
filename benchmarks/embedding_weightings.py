"""Compare the weightings of the counts: next-item prediction, and nearest neighbours.

    python benchmarks/embedding_weightings.py data/ml-latest-small --min-rating 4 --dim 64

The target is the second-to-last item of each user (validation), ranked among the whole catalogue by
cosine to the mean unit vector of the last items before it. On one thread.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

import recsys
from recsys.cooccurrence import WEIGHTINGS, Cooccurrence, WeightingConfig, weight
from recsys.embeddings import ItemEmbeddings, PairWeights

ONE_CORE = recsys.Runtime(device="cpu", threads=1)
LASTS = (1, 3, 5, 10)
TITLES = ("Apollo 13", "Toy Story", "Home Alone")


@dataclass
class MeanEmbedding:
    """Scores items by cosine to the mean unit vector of the last items of a history."""

    embeddings: ItemEmbeddings
    last: int

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        users = np.stack([self.embeddings.user_vector(h, self.last) for h in histories])
        return users @ self.embeddings.unit_vectors().T


def candidates(counts: Cooccurrence) -> Iterator[tuple[str, sp.csr_array, PairWeights | None]]:
    """Every symmetric weighting, some with shrinkage, and GloVe's pair weights."""
    for name in WEIGHTINGS:
        if name != "conditional":  # it is not symmetric
            yield name, weight(counts, WeightingConfig(name=name)), None
    for name in ("cosine", "ppmi"):
        yield (
            f"{name}, shrinkage 20",
            weight(counts, WeightingConfig(name=name, shrinkage=20)),
            None,
        )
    log1p = weight(counts, WeightingConfig(name="log1p"))
    yield "log1p, zero_weight 0.1", log1p, PairWeights(x_max=np.log1p(10), zero_weight=0.1)


def measure(split: recsys.Split, fitted: ItemEmbeddings) -> list[float]:
    reports = (recsys.evaluate(MeanEmbedding(fitted, n), split, "validation") for n in LASTS)
    return [report.metrics["hit_rate_at_10"] for report in reports]


def print_neighbours(split: recsys.Split, fitted: ItemEmbeddings) -> None:
    titles = split.interactions.catalogue["title"]
    index, _ = fitted.neighbours(5)
    for title in TITLES:
        at = np.flatnonzero(titles.str.startswith(f"{title} ("))
        if len(at):
            print(f"    {title}: {'; '.join(titles.iloc[index[at[0]]])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--min-rating", type=float, help="minimum rating of a positive")
    parser.add_argument("--dim", type=int, default=64)
    options = parser.parse_args()
    split = recsys.leave_last_out(recsys.read_ratings(options.data))
    counts = recsys.count_cooccurrence(split.train, options.min_rating)
    heads = " | ".join(f"last {n}" for n in LASTS)
    print(f"| weighting | loss / optimum | epochs | {heads} |\n{'| --- ' * (3 + len(LASTS))}|")
    for name, X, pair_weights in candidates(counts):
        epochs: list[int] = []
        fitted = recsys.fit_embeddings(
            X,
            recsys.EmbeddingConfig(dim=options.dim, pair_weights=pair_weights),
            items=counts.items,
            runtime=ONE_CORE,
            on_epoch=lambda epoch, _, epochs=epochs: epochs.append(epoch),
        )
        rates = " | ".join(f"{rate:.4f}" for rate in measure(split, fitted))
        ratio = "–" if fitted.loss_ratio is None else f"{fitted.loss_ratio:.4f}"
        print(f"| {name} | {ratio} | {len(epochs)} | {rates} |", flush=True)
        print_neighbours(split, fitted)


if __name__ == "__main__":
    main()
