"""How much the embeddings should count beside the session model: the blend, on validation targets.

    python benchmarks/blend.py path/to/bundle path/to/ratings [--users 2000]

The bundle has to come from a run over these ratings, which learns from all but each user's last two
watches; ranked is the last watch but one, among the whole catalogue, watched items left out. The
last watch, the test target, is not looked at. `one film` asks the same with all but the latest
watch of the history forgotten. Differences are from the first row, with their standard error over
users.
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

GRID = [(0.0, 1.0), (0.05, 1.0), (0.1, 1.0), (0.2, 1.0), (0.3, 1.0), (0.5, 1.0), (1.0, 1.0)]
GRID += [(0.0, 0.9), (0.0, 0.8), (0.0, 0.5)]


class Blended:
    """A recommender's scores, as evaluation asks for them."""

    def __init__(self, scorer: ItemScorer, blend: float, popularity_weight: float) -> None:
        self.scorer = scorer
        self.options = RecommendOptions(
            k=1, embedding_weight=blend, popularity_weight=popularity_weight
        )

    def score(self, histories: list[NDArray[np.int32]]) -> NDArray[np.float32]:
        logits_BN = self.scorer.model.batch_logits(histories)
        return self.scorer.log_scores(logits_BN, histories, self.options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--users", type=int, default=10**9)
    options = parser.parse_args()
    scorer = ItemScorer(load_bundle(options.bundle))
    split = leave_last_out(read_ratings(options.ratings))
    chosen = np.random.default_rng(0).permutation(len(split.targets("validation")))
    chosen = np.sort(chosen[: options.users])
    targets = split.targets("validation")[chosen]
    whole = [split.histories("validation")[row] for row in chosen]
    latest = [history[-1:] for history in whole]
    print(f"{len(targets):,} validation targets, {scorer.model.n_items:,} items")
    print(
        "| blend | popularity_weight | NDCG@10 | difference | HitRate@10 "
        "| one film: NDCG@10 | difference | HitRate@10 |\n" + "| --- " * 8 + "|"
    )
    plain: dict[str, NDArray[np.float64]] = {}
    for blend, bias in GRID:
        cells = []
        for name, histories in {"whole": whole, "one film": latest}.items():
            ranks = rank(Blended(scorer, blend, bias), histories, targets).ranks
            ndcg = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)
            more = ndcg - plain.setdefault(name, ndcg)
            error = more.std() / np.sqrt(len(more))
            cells += [f"{ndcg.mean():.4f}", f"{more.mean():+.4f} ± {error:.4f}"]
            cells += [f"{np.mean(ranks <= 10):.4f}"]
        print(f"| {blend} | {bias} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
