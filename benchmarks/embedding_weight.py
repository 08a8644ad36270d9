"""Accuracy on validation targets by the weights of the embeddings and of the popularity.

    python benchmarks/embedding_weight.py path/to/bundle path/to/ratings [--users 2000]

The bundle must come from a run on these ratings, which trains on all but the last two interactions
of each user. The target is the second-to-last interaction, ranked among the whole catalogue without
the items of the history; the test target is not used. `latest item` truncates the history to its
latest item. Differences are to the first row, with their standard error over users.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.data import leave_last_out, read_ratings
from recsys.evaluation import rank
from recsys.recommender.bundle import load_bundle
from recsys.recommender.filters import RecommendOptions
from recsys.recommender.scoring import ItemScorer

WEIGHTS = [(weight, 1.0) for weight in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)]
WEIGHTS += [(0.0, popularity) for popularity in (0.9, 0.8, 0.5)]


class WeightedScorer:
    """A recommender's scores as a model for `recsys.evaluation`."""

    def __init__(self, scorer: ItemScorer, embedding: float, popularity: float) -> None:
        self.scorer = scorer
        self.options = RecommendOptions(
            k=1, embedding_weight=embedding, popularity_weight=popularity
        )

    def score(self, histories: list[NDArray[np.int32]]) -> NDArray[np.float32]:
        logits_BN = self.scorer.model.batch_logits(histories)
        scores_BN, log_z_B1, _ = self.scorer.scores(logits_BN, histories, self.options)
        return scores_BN - log_z_B1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--users", type=int, default=10**9)
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    scorer = ItemScorer(bundle.embeddings, bundle.weights)
    split = leave_last_out(read_ratings(options.ratings))
    rows = np.random.default_rng(0).permutation(len(split.targets("validation")))
    rows = np.sort(rows[: options.users])
    targets = split.targets("validation")[rows]
    histories = split.histories("validation")
    whole = [histories[row] for row in rows]
    latest = [history[-1:] for history in whole]
    print(f"{len(targets):,} validation targets, {scorer.model.n_items:,} items")
    print(
        "| embedding_weight | popularity_weight | NDCG@10 | difference | HitRate@10 "
        "| latest item: NDCG@10 | difference | HitRate@10 |\n" + "| --- " * 8 + "|"
    )
    baseline: dict[str, NDArray[np.float64]] = {}
    for embedding, popularity in WEIGHTS:
        cells = []
        for name, histories in {"whole": whole, "latest": latest}.items():
            model = WeightedScorer(scorer, embedding, popularity)
            ranks = rank(model, histories, targets).ranks
            ndcg = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)
            difference = ndcg - baseline.setdefault(name, ndcg)
            error = difference.std() / np.sqrt(len(difference))
            cells += [f"{ndcg.mean():.4f}", f"{difference.mean():+.4f} ± {error:.4f}"]
            cells += [f"{np.mean(ranks <= 10):.4f}"]
        print(f"| {embedding} | {popularity} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
