import numpy as np
import pytest

from recsys.baselines import RecentPopularityConfig, fit_popularity, fit_recent_popularity
from recsys.data import read_ratings


def test_every_history_gets_the_number_of_watches_of_each_item(small_log):
    # Items 10 to 50 are watched by users 1 2 3, 1 2, 1 3, 1 and 2.
    model = fit_popularity(read_ratings(small_log))
    histories = [np.array([0], np.int32), np.array([], np.int32)]
    assert model.score(histories).tolist() == [[3, 2, 2, 1, 1]] * 2


def test_items_that_nobody_watched_count_zero(small_log):
    log = read_ratings(small_log)
    model = fit_popularity(log.filter(log.item_index == 1))
    assert model.counts.tolist() == [0, 2, 0, 0, 0]


def test_a_watch_weighs_half_after_each_half_life(small_log):
    # Item 30 is watched at 120 and 200, item 50 at 130, item 10 at 100, 120 and 300, the latest.
    half_life = RecentPopularityConfig(half_life_days=100 / 86_400)
    model = fit_recent_popularity(read_ratings(small_log), half_life)
    expected = [2**-2.0 + 2**-1.8 + 1, 2 * 2**-1.9, 2**-1.8 + 2**-1.0, 2**-1.6, 2**-1.7]
    assert model.counts.tolist() == pytest.approx(expected)
