import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.evaluation import rank, rank_targets, top_items

N_ITEMS = 6


class Table:
    """Gives the scores that it was given, one row per history, in order."""

    def __init__(self, scores):
        self.scores = np.array(scores, dtype=np.float32)
        self.asked = 0

    def score(self, histories):
        start, self.asked = self.asked, self.asked + len(histories)
        return self.scores[start : self.asked].copy()


def rank_by_sorting(scores, history, target):
    """Sort all items that may be recommended, best first, and look for the target."""
    allowed = [item for item in range(len(scores)) if item not in history or item == target]
    allowed.sort(key=lambda item: (math.inf if math.isnan(scores[item]) else -scores[item], item))
    return 1 + allowed.index(target)


def ranks_of(scores, histories, targets, **settings):
    histories = [np.array(history, dtype=np.int32) for history in histories]
    return rank_targets(Table(scores), histories, np.array(targets, dtype=np.int32), **settings)


numbers = st.sampled_from([math.nan, -math.inf, -1.0, 0.0, 0.5, math.inf])
users = st.tuples(
    st.lists(numbers, min_size=N_ITEMS, max_size=N_ITEMS),
    st.lists(st.integers(0, N_ITEMS - 1), max_size=8),
    st.integers(0, N_ITEMS - 1),
)


@given(users=st.lists(users, min_size=1, max_size=7), batch_size=st.integers(1, 8))
def test_ranks_are_those_of_a_sort(users, batch_size):
    scores, histories, targets = zip(*users, strict=True)
    expected = [rank_by_sorting(*user) for user in users]
    assert ranks_of(scores, histories, targets, batch_size=batch_size).tolist() == expected


@pytest.mark.parametrize(
    ("scores", "history", "target", "rank"),
    [
        ([3, 2, 1], [], 2, 3),
        ([3, 2, 1], [0], 2, 2),  # seen items are left out
        ([3, 2, 1], [0, 1, 2], 2, 1),  # except the target
        ([1, 1, 1], [], 0, 1),  # of equal scores the lower index is first
        ([1, 1, 1], [], 2, 3),
        ([1, math.nan, 2], [], 1, 3),  # no number is below all numbers
        ([math.nan, 1, math.nan], [], 2, 3),
        ([math.nan, 1, math.nan], [], 1, 1),
    ],
)
def test_by_hand(scores, history, target, rank):
    ranks = ranks_of([scores], [history], [target])
    assert ranks.tolist() == [rank]
    assert ranks.dtype == np.int64


def list_by_sorting(scores, history, k):
    allowed = [item for item in range(len(scores)) if item not in history]
    allowed.sort(key=lambda item: (math.inf if math.isnan(scores[item]) else -scores[item], item))
    return (allowed + [-1] * k)[:k]


@given(
    users=st.lists(users, min_size=1, max_size=7),
    batch_size=st.integers(1, 8),
    k=st.integers(1, 8),
)
def test_lists_are_those_of_a_sort(users, batch_size, k):
    scores, histories, _ = zip(*users, strict=True)
    arrays = [np.array(history, dtype=np.int32) for history in histories]
    expected = [list_by_sorting(*user, k) for user in zip(scores, histories, strict=True)]
    found = top_items(Table(scores), arrays, k, batch_size=batch_size)
    assert found.tolist() == expected
    unmasked = top_items(Table(scores), arrays, k, mask_seen=False, batch_size=batch_size)
    assert unmasked.tolist() == [list_by_sorting(row, [], k) for row in scores]


@given(users=st.lists(users, min_size=1, max_size=7), batch_size=st.integers(1, 8))
def test_a_target_stands_in_its_list_where_its_rank_says(users, batch_size):
    scores, histories, targets = zip(*users, strict=True)
    arrays = [np.array(history, dtype=np.int32) for history in histories]
    wanted = np.array(targets, dtype=np.int32)
    ranking = rank(Table(scores), arrays, wanted, N_ITEMS, batch_size=batch_size)
    places = [1 + row.index(target) for row, target in zip(
        ranking.recommended.tolist(), targets, strict=True)]  # fmt: skip
    assert ranking.ranks.tolist() == places
