from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.baselines import fit_markov_chain
from recsys.data import read_ratings


def log_of(*histories):
    rows = [(user, item) for user, history in enumerate(histories) for item in history]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))


def ranking(model, *history):
    """All items, best first; of equal ones the lower index."""
    scores = model.score([np.array(history, np.int32)])[0]
    return np.argsort(-scores, kind="stable").tolist()


# Item 0 is followed twice by 1, once by 2 and once by 3; 3 is watched more often than 2.
LOG = [[0, 1, 3], [0, 1], [0, 2], [0, 3], [4, 3]]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([0], [1, 3, 2, 0, 4]),
        ([4, 0], [1, 3, 2, 0, 4]),  # only the last watch counts
        ([1], [3, 0, 1, 2, 4]),
        ([2], [0, 3, 1, 2, 4]),  # nothing ever followed: the most watched
        ([], [0, 3, 1, 2, 4]),
    ],
)
def test_by_hand(history, expected):
    assert ranking(fit_markov_chain(log_of(*LOG)), *history) == expected


def test_the_last_watch_of_one_user_is_not_followed_by_the_first_of_the_next():
    model = fit_markov_chain(log_of([0, 1], [2, 0]))
    assert ranking(model, 1) == [0, 1, 2]
    assert model.successors.toarray()[1].tolist() == [0, 0, 0]


histories = st.lists(
    st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True), min_size=1, max_size=9
)


@given(histories=histories)
def test_rankings_are_those_of_counting(histories):
    log = log_of(*histories)
    model = fit_markov_chain(log)
    users = [log.history(user).tolist() for user in range(log.n_users)]
    for last in range(log.n_items):
        follows = [pair[1] for user in users for pair in pairwise(user) if pair[0] == last]
        watches = [item for user in users for item in user]
        expected = sorted(
            range(log.n_items),
            key=lambda item: (-follows.count(item), -watches.count(item), item),
        )
        assert ranking(model, last) == expected
