"""How much the embeddings should count beside the session model: the blend, on validation targets.

    python benchmarks/blend.py path/to/bundle path/to/ratings [--users 2000]

The bundle has to come from a run over these ratings, which learns from all but each user's last two
watches; ranked is the last watch but one, among the whole catalogue, watched items left out. The
last watch, the test target, is not looked at. `one film` asks the same with all but the latest
watch of the history forgotten.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.bundle import load_bundle
from recsys.data import leave_last_out, read_ratings
from recsys.evaluation.metrics import mean_metrics
from recsys.evaluation.ranking import rank_targets
from recsys.recommender.scoring import Scoring, Wishes

BLENDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Blended:
    """A recommender's scores, as evaluation asks for them."""

    def __init__(self, scoring: Scoring, blend: float, popularity_bias: float) -> None:
        self.scoring = scoring
        self.wishes = Wishes(k=1, blend=blend, popularity_bias=popularity_bias)

    def score(self, histories: list[NDArray[np.int32]]) -> NDArray[np.float32]:
        logits_BN = self.scoring.model.logits_after(histories)
        return self.scoring.log_scores(logits_BN, histories, self.wishes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--users", type=int, default=10**9)
    options = parser.parse_args()
    scoring = Scoring(load_bundle(options.bundle))
    split = leave_last_out(read_ratings(options.ratings))
    chosen = np.random.default_rng(0).permutation(len(split.targets("validation")))
    chosen = np.sort(chosen[: options.users])
    targets = split.targets("validation")[chosen]
    whole = [split.histories("validation")[row] for row in chosen]
    latest = [history[-1:] for history in whole]
    print(f"{len(targets):,} validation targets, {len(scoring.model.bias_N):,} items")
    print("blend  popularity_bias  NDCG@10  HitRate@10  one film: NDCG@10  HitRate@10")
    for blend, bias in [*((blend, 1.0) for blend in BLENDS), (0.0, 0.9), (0.0, 0.8), (0.0, 0.5)]:
        cells = []
        for histories in (whole, latest):
            model = Blended(scoring, blend, bias)
            metrics = mean_metrics(rank_targets(model, histories, targets), (10,))
            cells += [metrics["ndcg_at_10"], metrics["hit_rate_at_10"]]
        print(
            f"{blend:5.2f}  {bias:15.2f}  " + "  ".join(f"{cell:.4f}" for cell in cells), flush=True
        )


if __name__ == "__main__":
    main()
