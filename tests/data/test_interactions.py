import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import load_interactions, read_ratings, save_interactions
from recsys.data.interactions import format_time_range, to_unix
from recsys.errors import BundleError, ConfigError, DataError

# (user, item) -> time: each pair once, in any order, with equal times among them.
logs = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 6)), st.integers(0, 3), min_size=1, max_size=30
)


def table(log):
    rows = [(user, item, time) for (user, item), time in log.items()]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@given(log=logs)
def test_histories_are_sorted_by_time_then_input_order(log):
    interactions = read_ratings(table(log))
    for index, user in enumerate(interactions.users.ids):
        events = [(time, item) for (who, item), time in log.items() if who == user]
        expected = [item for _, item in sorted(events, key=lambda event: event[0])]
        assert interactions.items.ids[interactions.history(index)].tolist() == expected
        assert interactions.history_lengths[index] == len(expected)


@given(log=logs)
def test_concatenated_histories_are_the_rows(log):
    interactions = read_ratings(table(log))
    histories = [interactions.history(user) for user in range(interactions.n_users)]
    assert np.concatenate(histories).tolist() == interactions.item_index.tolist()
    assert len(interactions) == len(log)


@given(log=logs, data=st.data())
def test_filtered_rows_keep_their_user(log, data):
    interactions = read_ratings(table(log))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log))))
    filtered = interactions.filter(mask)
    assert (filtered.users, filtered.items) == (interactions.users, interactions.items)
    assert filtered.timestamp.tolist() == interactions.timestamp[mask].tolist()
    for user in range(interactions.n_users):
        assert filtered.history(user).tolist() == [
            item
            for who, item, keep in zip(
                interactions.user_index, interactions.item_index, mask, strict=True
            )
            if keep and who == user
        ]


@given(log=logs, data=st.data())
def test_compact_keeps_ids(log, data):
    interactions = read_ratings(table(log))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log))))
    filtered = interactions.filter(mask)
    compacted = filtered.compact()
    for vocabulary, indices in (("users", "user_index"), ("items", "item_index")):
        whole, left = getattr(filtered, vocabulary), getattr(compacted, vocabulary)
        by_id = whole.ids[getattr(filtered, indices)].tolist()
        assert left.ids[getattr(compacted, indices)].tolist() == by_id
        assert left.ids.tolist() == sorted(set(by_id))
        assert getattr(compacted, indices).dtype == np.int32
    assert compacted.timestamp.tolist() == filtered.timestamp.tolist()
    assert compacted.catalogue["item_id"].tolist() == compacted.items.ids.tolist()
    assert [compacted.history(user).tolist() for user in range(compacted.n_users)] == [
        compacted.item_index[compacted.user_index == user].tolist()
        for user in range(compacted.n_users)
    ]


def test_filter_without_ratings_and_timestamps():
    interactions = read_ratings(pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2]}))
    filtered = interactions.filter(np.array([True, False]))
    assert filtered.rating is None
    assert filtered.timestamp is None


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


@pytest.mark.parametrize("items", [[30, 10, 20], [30, 10, 30, 10]])
def test_the_matrix_does_not_change_histories(items):
    table = pd.DataFrame({"user_id": [1] * len(items) + [2], "item_id": [*items, 10]})
    interactions = read_ratings(table, repeats="allow")
    interactions.user_item_matrix()
    assert interactions.items.ids[interactions.history(0)].tolist() == items
    assert interactions.user_offsets.tolist() == [0, len(items), len(items) + 1]


def test_equal_data_has_an_equal_digest(small_log):
    assert read_ratings(small_log).digest == read_ratings(small_log.copy()).digest
    # Rows of other users in between do not matter.
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
def test_saved_interactions_are_loaded_unchanged(small_log, tmp_path, missing):
    whole = read_ratings(small_log.drop(columns=missing))
    loaded = load_interactions(save_interactions(whole, tmp_path / "saved"))
    assert loaded.digest == whole.digest
    assert loaded.users == whole.users
    assert loaded.items == whole.items
    pd.testing.assert_frame_equal(loaded.catalogue, whole.catalogue)
    assert np.array_equal(loaded.user_offsets, whole.user_offsets)


def test_text_ids_and_users_without_rows_are_loaded_unchanged(text_ids, tmp_path):
    filtered = text_ids.filter(text_ids.user_index == 1)
    loaded = load_interactions(save_interactions(filtered, tmp_path / "saved"))
    assert loaded.digest == filtered.digest
    assert loaded.users.ids.tolist() == ["1", "2", "3"]
    assert loaded.history_lengths.tolist() == filtered.history_lengths.tolist() == [0, 3, 0]


def test_a_damaged_or_unknown_folder_is_an_error(text_ids, tmp_path):
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
def test_all_time_formats_are_equal(time):
    assert to_unix(time) == NEW_YEAR


@pytest.mark.parametrize("time", ["", "soon", "NaT", "2015-13-01", 1.5, None, pd.NaT])
def test_an_invalid_time_is_an_error(time):
    with pytest.raises(ConfigError, match="is not a time"):
        to_unix(time)


def test_the_range_of_no_timestamps_is_empty():
    assert format_time_range(np.array([], dtype=np.int64)) == "empty"


FAULTS = [
    ({"rating": [4, np.nan, 3]}, "row 1: the rating is not a finite number"),
    ({"rating": [4, 5, np.inf]}, "row 2: the rating is not a finite number"),
    ({"timestamp": [5, np.iinfo(np.int64).min, 6]}, "row 1: the timestamp was not parsed"),
    ({"timestamp": [6, 5, 5]}, "row 0: the next row of the user is earlier"),
    ({"item_index": [0, 2, 0]}, "row 1: the item index is out of range"),
    ({"item_index": [0, -1, 0]}, "row 1: the item index is out of range"),
    ({"user_index": [0, 0, 2]}, "row 2: user_offsets do not fit the user index"),
    ({"user_index": [0, 1, 0]}, "row 1: user_offsets do not fit the user index"),
    ({"user_index": [0, 1, 1]}, "row 1: user_offsets do not fit the user index"),
    ({"user_offsets": [0, 2, 2]}, "do not fit 3 items"),
    ({"user_offsets": [0, 4, 3]}, "do not fit 3 items"),
    ({"user_offsets": [1, 2, 3]}, "do not fit 3 items"),
    ({"user_offsets": [0, 2]}, "do not fit 3 items"),
    ({"rating": [4, 5]}, "do not fit 3 items"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_a_value_that_was_not_parsed_is_refused(change, message):
    log = read_ratings(
        pd.DataFrame(
            {"user_id": [1, 1, 2], "item_id": [1, 2, 1], "rating": [4, 5, 3], "timestamp": 5}
        )
    )
    ((name, values),) = change.items()
    changed = np.array(values, dtype=getattr(log, name).dtype)
    with pytest.raises(DataError, match=message):
        dataclasses.replace(log, **{name: changed})


def test_a_fault_in_any_row_is_found():
    n = 7
    log = read_ratings(pd.DataFrame({"user_id": 1, "item_id": range(n), "timestamp": range(n)}))
    for row in range(1, n):
        timestamp = log.timestamp.copy()
        timestamp[row] = 0 if row > 1 else -1
        with pytest.raises(DataError, match=f"row {row - 1}: the next row"):
            dataclasses.replace(log, timestamp=timestamp)
