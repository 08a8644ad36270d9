"""Mean embedding."""

import numpy as np
import pytest

from recsys.baselines import MeanEmbeddingConfig, Recency, fit_mean_embedding

VECTORS = np.array([[3, 0], [0, 1], [2, 2], [0, 0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("normalise", "recency", "expected"),
    [
        (False, Recency(), [9, 1, 8, 0]),  # (3, 1) with each
        (False, Recency(decay=0.5), [4.5, 1, 5, 0]),  # (1.5, 1)
        (False, Recency(last=1), [0, 1, 2, 0]),  # (0, 1)
        (True, Recency(), [1, 1, 2**0.5, 0]),  # (1, 1) with each at length one
    ],
)
def test_scores_by_hand(normalise, recency, expected):
    before = VECTORS.copy()
    model = fit_mean_embedding(VECTORS, MeanEmbeddingConfig(normalise=normalise, recency=recency))
    assert model.score([np.array([0, 1], np.int32)])[0].tolist() == pytest.approx(expected)
    assert np.array_equal(before, VECTORS)
