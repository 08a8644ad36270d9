import math

import numpy as np
import pandas as pd
import pytest

from recsys.baselines import ItemKNNConfig, fit_item_knn
from recsys.data import read_ratings


@pytest.fixture
def log():
    # Watched by: item 1: users 1 2 3 4; item 2: users 1 2; item 3: user 2.
    return read_ratings(
        pd.DataFrame({"user_id": [1, 2, 3, 4, 1, 2, 2], "item_id": [1, 1, 1, 1, 2, 2, 3]})
    )


def scores(model, *history):
    return model.score([np.array(history, np.int32)])[0].tolist()


def test_a_score_is_the_sum_of_the_cosines_to_the_watched_items(log):
    model = fit_item_knn(log)
    one_two, one_three, two_three = 2 / math.sqrt(4 * 2), 1 / math.sqrt(4 * 1), 1 / math.sqrt(2 * 1)
    assert scores(model, 0) == pytest.approx([0, one_two, one_three])
    assert scores(model, 0, 1) == pytest.approx([one_two, one_two, one_three + two_three])
    assert scores(model, 1, 0, 1) == pytest.approx(scores(model, 0, 1))
    assert scores(model) == [0, 0, 0]


def test_only_the_nearest_neighbours_of_the_scored_item_speak(log):
    # Nearest of items 1, 2 and 3: 2, of equally near 1, and 2.
    model = fit_item_knn(log, ItemKNNConfig(n_neighbours=1))
    near = 1 / math.sqrt(2)
    assert scores(model, 0) == pytest.approx([0, near, 0])
    assert scores(model, 1) == pytest.approx([near, 0, near])
    assert scores(model, 2) == [0, 0, 0]


def test_all_watches_count_whatever_their_rating(log, small_log):
    rated = fit_item_knn(read_ratings(small_log)).similarity
    watched = fit_item_knn(read_ratings(small_log.drop(columns="rating"))).similarity
    assert rated.toarray().tolist() == watched.toarray().tolist()
