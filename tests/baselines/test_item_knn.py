import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

from recsys.baselines import FULL_HISTORY, ItemKNNConfig, Recency, fit_item_knn
from recsys.data import read_ratings


@pytest.fixture
def interactions():
    # Users of item 1: 1 2 3 4; of item 2: 1 2; of item 3: 2.
    return read_ratings(
        pd.DataFrame({"user_id": [1, 2, 3, 4, 1, 2, 2], "item_id": [1, 1, 1, 1, 2, 2, 3]})
    )


def scores(model, *history):
    return model.score([np.array(history, np.int32)])[0].tolist()


def test_score_is_the_sum_of_cosines_to_the_history(interactions):
    model = fit_item_knn(interactions, ItemKNNConfig(recency=FULL_HISTORY))
    one_two, one_three, two_three = 2 / math.sqrt(4 * 2), 1 / math.sqrt(4 * 1), 1 / math.sqrt(2 * 1)
    assert scores(model, 0) == pytest.approx([0, one_two, one_three])
    assert scores(model, 0, 1) == pytest.approx([one_two, one_two, one_three + two_three])
    assert scores(model, 1, 0, 1) == pytest.approx(scores(model, 0, 1))
    assert scores(model) == [0, 0, 0]


def test_only_the_nearest_neighbours_of_the_scored_item_count(interactions):
    # Nearest of items 1, 2 and 3: 2, of equally near 1, and 2.
    model = fit_item_knn(interactions, ItemKNNConfig(n_neighbours=1, recency=FULL_HISTORY))
    near = 1 / math.sqrt(2)
    assert scores(model, 0) == pytest.approx([0, near, 0])
    assert scores(model, 1) == pytest.approx([near, 0, near])
    assert scores(model, 2) == [0, 0, 0]


def test_ratings_are_ignored(interactions, small_log):
    rated = fit_item_knn(read_ratings(small_log)).similarity
    unrated = fit_item_knn(read_ratings(small_log.drop(columns="rating"))).similarity
    assert rated.toarray().tolist() == unrated.toarray().tolist()


def test_recent_items_have_more_weight(interactions):
    model = fit_item_knn(interactions, ItemKNNConfig(recency=Recency(last=2, decay=0.5)))
    one_three, two_three = 1 / math.sqrt(4 * 1), 1 / math.sqrt(2 * 1)
    assert scores(model, 0, 1)[2] == pytest.approx(one_three / 2 + two_three)
    assert scores(model, 0, 1, 2)[0] == pytest.approx(2 / math.sqrt(4 * 2) / 2 + one_three)


@pytest.mark.parametrize(
    ("weighting", "peer"),
    [
        ("cosine", CosineRecommender(K=1000)),
        ("tfidf", TFIDFRecommender(K=1000)),
        ("bm25", BM25Recommender(K=1000)),
    ],
    ids=["cosine", "tfidf", "bm25"],
)
def test_similarities_equal_those_of_implicit(sample, weighting, peer):
    matrix = sp.csr_matrix(sample.user_item_matrix().astype(np.float64))
    peer.fit(matrix, show_progress=False)
    expected = peer.similarity.toarray()
    np.fill_diagonal(expected, 0)
    config = ItemKNNConfig(weighting=weighting, n_neighbours=None)
    similarity = fit_item_knn(sample, config).similarity.toarray()
    assert expected.max() > 0
    np.testing.assert_allclose(similarity, expected, rtol=1e-5, atol=1e-6)


def test_block_size_does_not_change_the_result(sample, monkeypatch):
    whole = fit_item_knn(sample).similarity.toarray()
    monkeypatch.setattr("recsys.baselines.item_knn._BLOCK_PAIRS", 7 * sample.n_items)
    assert np.array_equal(fit_item_knn(sample).similarity.toarray(), whole)
