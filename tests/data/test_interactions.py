import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import read_ratings

# (user, item) -> time: each pair once, in any order, with equal times among them.
logs = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 6)), st.integers(0, 3), min_size=1, max_size=30
)


def table(log):
    rows = [(user, item, time) for (user, item), time in log.items()]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@given(log=logs)
def test_a_history_is_what_its_user_watched_by_time_then_input_order(log):
    interactions = read_ratings(table(log))
    for index, user in enumerate(interactions.users.ids):
        watches = [(time, item) for (who, item), time in log.items() if who == user]
        expected = [item for _, item in sorted(watches, key=lambda watch: watch[0])]
        assert interactions.items.ids[interactions.history(index)].tolist() == expected
        assert interactions.history_lengths[index] == len(expected)


@given(log=logs)
def test_the_histories_one_after_the_other_are_the_rows(log):
    interactions = read_ratings(table(log))
    histories = [interactions.history(user) for user in range(interactions.n_users)]
    assert np.concatenate(histories).tolist() == interactions.item_index.tolist()
    assert len(interactions) == len(log)


@given(log=logs, kept=st.data())
def test_rows_that_are_kept_stay_with_their_user(log, kept):
    interactions = read_ratings(table(log))
    mask = np.array(kept.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log))))
    few = interactions.filter(mask)
    assert (few.users, few.items) == (interactions.users, interactions.items)
    assert few.timestamp.tolist() == interactions.timestamp[mask].tolist()
    for user in range(interactions.n_users):
        assert few.history(user).tolist() == [
            item
            for who, item, keep in zip(
                interactions.user_index, interactions.item_index, mask, strict=True
            )
            if keep and who == user
        ]


@given(log=logs, kept=st.data())
def test_shrunk_to_what_is_left_the_ids_are_the_same(log, kept):
    interactions = read_ratings(table(log))
    mask = np.array(kept.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log))))
    few = interactions.filter(mask)
    shrunk = few.compact()
    for vocabulary, indices in (("users", "user_index"), ("items", "item_index")):
        whole, left = getattr(few, vocabulary), getattr(shrunk, vocabulary)
        by_id = whole.ids[getattr(few, indices)].tolist()
        assert left.ids[getattr(shrunk, indices)].tolist() == by_id
        assert left.ids.tolist() == sorted(set(by_id))
        assert getattr(shrunk, indices).dtype == np.int32
    assert shrunk.timestamp.tolist() == few.timestamp.tolist()
    assert shrunk.catalogue["item_id"].tolist() == shrunk.items.ids.tolist()
    assert [shrunk.history(user).tolist() for user in range(shrunk.n_users)] == [
        shrunk.item_index[shrunk.user_index == user].tolist() for user in range(shrunk.n_users)
    ]


def test_what_is_not_known_is_not_kept_either():
    interactions = read_ratings(pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2]}))
    few = interactions.filter(np.array([True, False]))
    assert few.rating is None
    assert few.timestamp is None


@given(log=logs)
def test_the_matrix_has_a_one_for_each_pair(log):
    interactions = read_ratings(table(log))
    expected = np.zeros((interactions.n_users, interactions.n_items), dtype=int)
    for user, item in log:
        expected[interactions.users.index(user), interactions.items.index(item)] = 1
    assert interactions.user_item_matrix().toarray().tolist() == expected.tolist()


def test_the_matrix_has_a_one_where_a_row_is_repeated(small_log):
    interactions = read_ratings(small_log)
    twice = dataclasses.replace(interactions, item_index=np.zeros_like(interactions.item_index))
    assert twice.user_item_matrix().toarray()[:, 0].tolist() == [1, 1, 1]


def test_the_matrix_leaves_the_histories_in_their_order():
    watched = [30, 10, 20]
    interactions = read_ratings(pd.DataFrame({"user_id": [1, 1, 1], "item_id": watched}))
    interactions.user_item_matrix()
    assert interactions.items.ids[interactions.history(0)].tolist() == watched


def test_equal_data_has_an_equal_digest(small_log):
    assert read_ratings(small_log).digest == read_ratings(small_log.copy()).digest
    # Rows of other users in between change nothing of what anyone watched.
    by_user = small_log.sort_values("user_id", kind="stable")
    assert read_ratings(by_user).digest == read_ratings(small_log).digest


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log.assign(rating=log["rating"] + 0.5),
        lambda log: log.assign(timestamp=log["timestamp"] + 1),
        lambda log: log.assign(user_id=log["user_id"] + 1),
        lambda log: log.assign(item_id=log["item_id"] + 1),
        lambda log: log.assign(item_id=log["item_id"].astype(str) + "x"),
        lambda log: log.drop(columns="rating"),
        lambda log: log.iloc[1:],
    ],
)
def test_other_data_has_another_digest(small_log, change):
    assert read_ratings(change(small_log)).digest != read_ratings(small_log).digest
