import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import load_interactions, read_ratings, save_interactions
from recsys.data.interactions import format_time_range, to_unix
from recsys.errors import BundleError, ConfigError

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


@pytest.fixture
def text_ids(small_log):
    return read_ratings(small_log.astype({"user_id": str, "item_id": str}))


@pytest.mark.parametrize("missing", [[], ["rating"], ["rating", "timestamp"]])
def test_what_is_saved_comes_back(small_log, tmp_path, missing):
    whole = read_ratings(small_log.drop(columns=missing))
    loaded = load_interactions(save_interactions(whole, tmp_path / "saved"))
    assert loaded.digest == whole.digest
    assert loaded.users == whole.users
    assert loaded.items == whole.items
    pd.testing.assert_frame_equal(loaded.catalogue, whole.catalogue)
    assert np.array_equal(loaded.user_offsets, whole.user_offsets)


def test_ids_that_are_text_and_users_without_rows_come_back(text_ids, tmp_path):
    few = text_ids.filter(text_ids.user_index == 1)
    loaded = load_interactions(save_interactions(few, tmp_path / "saved"))
    assert loaded.digest == few.digest
    assert loaded.users.ids.tolist() == ["1", "2", "3"]
    assert loaded.history_lengths.tolist() == few.history_lengths.tolist() == [0, 3, 0]


def test_a_damaged_or_strange_folder_is_refused(text_ids, tmp_path):
    folder = save_interactions(text_ids, tmp_path / "saved")
    events = folder / "events.npz"
    events.write_bytes(events.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"events\.npz"):
        load_interactions(folder)
    with pytest.raises(BundleError, match="missing"):
        load_interactions(tmp_path)


NEW_YEAR = 1_420_070_400  # 2015-01-01, UTC


@pytest.mark.parametrize(
    "time",
    [
        NEW_YEAR,
        np.int64(NEW_YEAR),
        "2015-01-01",
        "2015-01-01T00:00",
        "2015-01-01T01:00+01:00",
        datetime(2015, 1, 1),  # noqa: DTZ001
        datetime(2015, 1, 1, tzinfo=UTC),
        datetime(2015, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        pd.Timestamp("2015-01-01"),
        pd.Timestamp("2014-12-31 23:59:59.5"),  # rounded up
    ],
)
def test_all_ways_to_write_a_time_are_equal(time):
    assert to_unix(time) == NEW_YEAR


@pytest.mark.parametrize("time", ["", "soon", "NaT", "2015-13-01", 1.5, None, pd.NaT])
def test_an_invalid_time_is_an_error(time):
    with pytest.raises(ConfigError, match="is not a time"):
        to_unix(time)


def test_the_range_of_no_timestamps_is_empty():
    assert format_time_range(np.array([], dtype=np.int64)) == "empty"
