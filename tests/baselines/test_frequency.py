"""Popularity and the Markov chain."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.baselines import (
    RecentPopularityConfig,
    fit_markov_chain,
    fit_popularity,
    fit_recent_popularity,
)
from recsys.data import read_ratings


def test_popularity_scores_every_history_by_counts(small_log):
    # Items 10 to 50 belong to users 1 2 3, 1 2, 1 3, 1 and 2.
    model = fit_popularity(read_ratings(small_log))
    histories = [np.array([0], np.int32), np.array([], np.int32)]
    assert model.score(histories).tolist() == [[3, 2, 2, 1, 1]] * 2


def test_items_without_interactions_count_zero(small_log):
    interactions = read_ratings(small_log)
    model = fit_popularity(interactions.filter(interactions.item_index == 1))
    assert model.counts.tolist() == [0, 2, 0, 0, 0]


def test_weight_halves_with_each_half_life(small_log):
    # Timestamps: item 30 at 120 and 200, item 50 at 130, item 10 at 100, 120 and 300, the latest.
    half_life = RecentPopularityConfig(half_life_days=100 / 86_400)
    model = fit_recent_popularity(read_ratings(small_log), half_life)
    expected = [2**-2.0 + 2**-1.8 + 1, 2 * 2**-1.9, 2**-1.8 + 2**-1.0, 2**-1.6, 2**-1.7]
    assert model.counts.tolist() == pytest.approx(expected)


def make_interactions(*histories):
    rows = [(user, item) for user, history in enumerate(histories) for item in history]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))


def ranking(model, *history):
    """All items, best first; of equal ones the lower index."""
    scores = model.score([np.array(history, np.int32)])[0]
    return np.argsort(-scores, kind="stable").tolist()


# Item 0 is followed twice by 1, once by 2 and once by 3; 3 is more popular than 2.
HISTORIES = [[0, 1, 3], [0, 1], [0, 2], [0, 3], [4, 3]]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([0], [1, 3, 2, 0, 4]),
        ([4, 0], [1, 3, 2, 0, 4]),  # only the last item counts
        ([1], [3, 0, 1, 2, 4]),
        ([2], [0, 3, 1, 2, 4]),  # nothing followed: by popularity
        ([], [0, 3, 1, 2, 4]),
    ],
)
def test_markov_ranking_by_hand(history, expected):
    assert ranking(fit_markov_chain(make_interactions(*HISTORIES)), *history) == expected


def test_transitions_do_not_cross_users():
    model = fit_markov_chain(make_interactions([0, 1], [2, 0]))
    assert ranking(model, 1) == [0, 1, 2]
    assert model.successors.toarray()[1].tolist() == [0, 0, 0]


histories = st.lists(
    st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True), min_size=1, max_size=9
)


@given(histories=histories)
def test_markov_ranking_equals_counting(histories):
    interactions = make_interactions(*histories)
    model = fit_markov_chain(interactions)
    users = [interactions.history(user).tolist() for user in range(interactions.n_users)]
    for last in range(interactions.n_items):
        follows = [pair[1] for user in users for pair in pairwise(user) if pair[0] == last]
        events = [item for user in users for item in user]
        expected = sorted(
            range(interactions.n_items),
            key=lambda item: (-follows.count(item), -events.count(item), item),
        )
        assert ranking(model, last) == expected
