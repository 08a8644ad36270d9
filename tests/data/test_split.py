from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import leave_last_out, read_ratings

logs = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 6)), st.integers(0, 3), min_size=1, max_size=30
)


def split_of(log):
    rows = [(user, item, time) for (user, item), time in log.items()]
    columns = ["user_id", "item_id", "timestamp"]
    return leave_last_out(read_ratings(pd.DataFrame(rows, columns=columns)))


def pairs(users, items):
    return Counter(zip(np.asarray(users).tolist(), np.asarray(items).tolist(), strict=True))


@pytest.fixture
def split(small_log):
    return leave_last_out(read_ratings(small_log))


def test_by_hand(split):
    # Watches by time: 1: 10 20 30 40; 2: 20 10 50; 3: 30 10. Indices are tens less one.
    assert split.users.tolist() == [0, 1]
    assert split.targets("test").tolist() == [3, 4]
    assert split.targets("validation").tolist() == [2, 0]
    assert [h.tolist() for h in split.histories("test")] == [[0, 1, 2], [1, 0]]
    assert [h.tolist() for h in split.histories("validation")] == [[0, 1], [1]]
    assert [split.train.history(user).tolist() for user in range(3)] == [[0, 1], [1], [2, 0]]
    assert split.train.rating.tolist() == [4.0, 4.0, 4.0, 1.0, 4.5]


@given(log=logs)
def test_every_row_is_in_exactly_one_of_train_validation_and_test(log):
    split = split_of(log)
    whole = split.interactions
    parts = pairs(split.train.user_index, split.train.item_index)
    for target in ("validation", "test"):
        parts += pairs(split.users, split.targets(target))
    assert parts == pairs(whole.user_index, whole.item_index)


@given(log=logs)
def test_no_train_row_is_at_or_after_a_target(log):
    split = split_of(log)
    position = {
        (user, item): place
        for user in range(split.interactions.n_users)
        for place, item in enumerate(split.interactions.history(user).tolist())
    }
    for user, validation, test in zip(
        split.users, split.targets("validation"), split.targets("test"), strict=True
    ):
        for item in split.train.history(user).tolist():
            assert position[user, item] < position[user, validation] < position[user, test]


@given(log=logs)
def test_a_history_is_all_that_was_watched_before_the_target(log):
    split = split_of(log)
    for target, then in (("validation", 2), ("test", 1)):
        found = zip(split.users, split.histories(target), split.targets(target), strict=True)
        for user, history, item in found:
            whole = split.interactions.history(user).tolist()
            assert [*history.tolist(), item] == whole[: len(whole) - then + 1]


@given(log=logs)
def test_users_of_fewer_than_three_watches_are_for_training_only(log):
    split = split_of(log)
    watches = Counter(user for user, _ in log)
    ids = split.interactions.users.ids
    assert ids[split.users].tolist() == sorted(user for user, n in watches.items() if n >= 3)
    assert split.train.n_users == len(watches)


def test_the_split_leaves_the_interactions_as_they_are(split):
    before = split.interactions.digest
    split.train.item_index[:] = 0
    assert leave_last_out(split.interactions).interactions.digest == before
    assert split.interactions.item_index.any()


def test_a_fingerprint_tells_the_data_the_target_and_the_protocol(split, small_log):
    fingerprint = split.fingerprint("test")
    assert fingerprint["target"] == "test"
    assert (fingerprint["n_items"], fingerprint["n_users"]) == (5, 2)
    assert fingerprint == leave_last_out(read_ratings(small_log)).fingerprint("test")
    assert fingerprint["targets_digest"] != split.fingerprint("validation")["targets_digest"]
    louder = leave_last_out(read_ratings(small_log.assign(rating=5.0))).fingerprint("test")
    assert louder["data_digest"] != fingerprint["data_digest"]
    assert louder["targets_digest"] == fingerprint["targets_digest"]
