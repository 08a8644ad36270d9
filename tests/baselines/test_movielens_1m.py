"""Reference metrics of an independent script on MovieLens-1M, with the last item as target."""

from pathlib import Path

import numpy as np
import pytest

from recsys.baselines import (
    FULL_HISTORY,
    ItemKNNConfig,
    Recency,
    fit_item_knn,
    fit_markov_chain,
    fit_popularity,
)
from recsys.data import read_ratings
from recsys.data.splitters import TEST, TRAIN, Split
from recsys.evaluation import evaluate

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def split():
    for folder in (ROOT / "data", ROOT.parent / "shared" / "data"):
        if (folder / "ml-1m" / "ml-1m.txt").is_file():
            interactions = read_ratings(folder / "ml-1m")
            break
    else:
        pytest.skip("the sequences of MovieLens-1M have not been downloaded")
    assignment = np.full(len(interactions), TRAIN, dtype=np.int8)
    assignment[interactions.user_offsets[1:] - 1] = TEST
    return Split(interactions, assignment, "hold-out-last")


@pytest.mark.parametrize(
    ("fit", "hit_rate", "ndcg"),
    [
        (fit_popularity, 0.0429, 0.0207),
        (fit_markov_chain, 0.225, 0.135),
        (
            lambda interactions: fit_item_knn(
                interactions, ItemKNNConfig(n_neighbours=100, recency=FULL_HISTORY)
            ),
            0.0805,
            0.0386,
        ),
        (
            lambda interactions: fit_item_knn(
                interactions, ItemKNNConfig(n_neighbours=None, recency=Recency(last=5, decay=0.8))
            ),
            0.184,
            0.102,
        ),
    ],
    ids=["popularity", "markov", "item-knn-100", "item-knn-last-five"],
)
def test_metrics_equal_the_reference(split, fit, hit_rate, ndcg):
    metrics = evaluate(fit(split.train), split).metrics
    # As many digits as the script gave.
    digits = 4 if hit_rate < 0.1 else 3
    assert metrics["hit_rate_at_10"] == pytest.approx(hit_rate, abs=0.6 * 10**-digits)
    assert metrics["ndcg_at_10"] == pytest.approx(ndcg, abs=0.6 * 10**-digits)
