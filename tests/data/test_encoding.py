import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import read_ratings
from recsys.data.arrow import read_table
from recsys.data.encoding import encode
from recsys.data.tables import INVALID


def read(**columns):
    given = {"user_id": [1, 2], "item_id": [1, 2]} | columns
    return read_ratings(pd.DataFrame(given), on_report=lambda report: None)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([2, 1], [1, 2]),
        ([2.0, 1.0], [1, 2]),  # integers that once had gaps among them
        (np.array([2, 1], dtype=np.uint8), [1, 2]),
        (np.array([2**62, -5]), [-5, 2**62]),
        (pd.array([2, 1], dtype="Int64"), [1, 2]),
        (pd.Categorical(["b", "a"]), ["a", "b"]),
        (pd.Categorical([20, 10]), [10, 20]),
        (["2", "1"], ["1", "2"]),  # a table distinguishes text from numbers
        (pd.array(["2", "1"], dtype="string"), ["1", "2"]),
        (["02", "1"], ["02", "1"]),
        (np.array([2**64 - 1, 1], dtype=np.uint64), ["1", "18446744073709551615"]),
    ],
    ids=repr,
)
def test_ids_of_tables_keep_their_type(ids, expected):
    users = read(user_id=ids).users
    assert users.ids.tolist() == expected
    assert users.ids.dtype == (np.int64 if isinstance(expected[0], int) else object)


@pytest.mark.parametrize(
    "ratings",
    [[1, 5], ["1", "5"], [1.0, 5.0], pd.array([1, 5], dtype="Int64"), pd.Categorical([1, 5])],
    ids=["int", "text", "float", "Int64", "category"],
)
def test_ratings_become_single_precision(ratings):
    rating = read(rating=ratings).rating
    assert rating.tolist() == [1.0, 5.0]
    assert rating.dtype == np.float32


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([10, 20], [10, 20]),
        (["10", "20.0"], [10, 20]),
        ([10.0, 0.0], [10, 0]),
        (pd.array([10, 20], dtype="Int64"), [10, 20]),
        (pd.to_datetime(["1970-01-02 00:00:00.5", "1970-01-01 00:00:01.9"]), [86_400, 1]),
        (pd.to_datetime(["1970-01-02", "1970-01-03"]).tz_localize("Etc/GMT-1"), [82_800, 169_200]),
        ([pd.Timestamp("1970-01-02").date(), pd.Timestamp("1970-01-03").date()], [86400, 172800]),
        ([1_600_000_000_500, 1_600_000_001_000], [1_600_000_000, 1_600_000_001]),
    ],
    ids=["int", "text", "float", "Int64", "datetime", "zone", "date", "ms"],
)
def test_times_become_seconds_since_1970_in_utc(times, expected):
    timestamp = read(timestamp=times).timestamp
    assert timestamp.tolist() == expected
    assert timestamp.dtype == np.int64


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([10, None], [10, INVALID]),
        ([10.0, 1.5], [10, INVALID]),
        ([10.0, 1e30], [10, INVALID]),
        (["10", "x"], [10, INVALID]),
        (["2015-01-01", "x"], [1_420_070_400, INVALID]),
        (["2015-01-01", "20", "2015-01-01"], [1_420_070_400, INVALID, 1_420_070_400]),
        (pd.to_datetime(["1970-01-01", None]), [0, INVALID]),
    ],
    ids=["gap", "fraction", "huge", "word", "no date", "mixed", "NaT"],
)
def test_invalid_times_are_marked(times, expected):
    log = pd.DataFrame({"user_id": 1, "item_id": range(len(times)), "timestamp": times})
    assert encode(read_table(log)).timestamp.seconds.tolist() == expected


rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=15
)


@given(rows=rows)
def test_the_latest_row_of_each_user_and_item_is_used(rows):
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    latest = {}
    for position, (user, item, time) in enumerate(rows):
        latest[user, item] = max(latest.get((user, item), (-1, -1)), (time, position))
    expected = sorted(
        (user, time, position, item) for (user, item), (time, position) in latest.items()
    )
    reports = []
    latest_rows = read_ratings(log, repeats="exclude", on_report=reports.append)
    users, items = (
        latest_rows.users.ids[latest_rows.user_index],
        latest_rows.items.ids[latest_rows.item_index],
    )
    found = zip(users, latest_rows.timestamp, items, strict=True)
    assert list(found) == [(user, time, item) for user, time, _, item in expected]
    (report,) = reports
    assert (report.n_rows, report.n_used) == (len(rows), len(expected))
    assert len(report.quarantined) == len(rows) - len(expected)
    assert report.metrics().get("duplicate_rows", 0) == len(report.quarantined)
    all_rows = read_ratings(log, repeats="allow", on_report=reports.append)
    assert len(all_rows) == reports[-1].n_used == len(rows)
    assert reports[-1].quarantined.empty
