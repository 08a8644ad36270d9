import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.validate import DataWarning, validate_ratings
from recsys.errors import DataError


def checked(**columns):
    given = {"user_id": [1, 2], "item_id": [1, 2]} | columns
    return validate_ratings(pd.DataFrame(given), "the table")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([2, 1], [2, 1]),
        (["2", "1"], [2, 1]),
        (["-2", "1"], [-2, 1]),
        ([2.0, 1.0], [2, 1]),  # integers that once had gaps among them
        (np.array([2, 1], dtype=np.uint8), [2, 1]),
        (pd.array([2, 1], dtype="Int64"), [2, 1]),
        (pd.array(["2", "1"], dtype="string"), [2, 1]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
        (["02", "1"], ["02", "1"]),
        ([2.5, 1.0], ["2.5", "1.0"]),
        (np.array([2**64 - 1, 1], dtype=np.uint64), ["18446744073709551615", "1"]),
    ],
)
def test_ids_are_numbers_where_all_are_written_as_numbers_are(ids, expected):
    users = checked(user_id=ids)["user_id"]
    assert users.tolist() == expected
    assert users.dtype == (np.int64 if isinstance(expected[0], int) else object)


@pytest.mark.parametrize(
    "ratings", [[1, 5], ["1", "5"], [1.0, 5.0], pd.array([1, 5], dtype="Int64")]
)
def test_ratings_become_single_precision(ratings):
    rating = checked(rating=ratings)["rating"]
    assert rating.tolist() == [1.0, 5.0]
    assert rating.dtype == np.float32


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([10, 20], [10, 20]),
        (["10", "20.0"], [10, 20]),
        ([10.0, 0.0], [10, 0]),
        (pd.to_datetime(["1970-01-02 00:00:00.5", "1970-01-01 00:00:01.9"]), [86_400, 1]),
        (pd.to_datetime(["1970-01-02", "1970-01-03"]).tz_localize("Etc/GMT-1"), [82_800, 169_200]),
    ],
)
def test_times_become_seconds_since_1970_in_utc(times, expected):
    timestamp = checked(timestamp=times)["timestamp"]
    assert timestamp.tolist() == expected
    assert timestamp.dtype == np.int64


@pytest.mark.parametrize(
    ("column", "values", "match"),
    [
        ("user_id", [1, None], "nan is not an id"),
        ("item_id", ["a", None], "is not an id"),
        ("rating", [1.0, float("inf")], "inf is not a number"),
        ("rating", pd.array([1, None], dtype="Int64"), "<NA> is not a number"),
        ("timestamp", [1, 2.0**63], "is not a whole number of seconds"),
        ("timestamp", pd.array([1, None], dtype="Int64"), "<NA> is not a whole number"),
        ("timestamp", pd.to_datetime(["1970-01-01", None]), "NaT is not a time"),
    ],
)
def test_the_bad_value_and_its_row_are_named(column, values, match):
    with pytest.raises(DataError, match=rf"the table, row 1, column '{column}': .*{match}"):
        checked(**{column: values})


rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=15
)


@pytest.mark.filterwarnings("ignore::recsys.data.validate.DataWarning")
@given(rows=rows)
def test_of_each_user_and_item_the_latest_row_is_kept_in_input_order(rows):
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    latest = {}
    for position, (user, item, time) in enumerate(rows):
        latest[user, item] = max(latest.get((user, item), (-1, -1)), (time, position))
    expected = [rows[position] for position in sorted(position for _, position in latest.values())]
    kept = validate_ratings(log, "the table")
    assert list(kept.itertuples(index=False, name=None)) == expected


def test_data_without_repeats_gives_no_warning(small_log, recwarn):
    validate_ratings(small_log, "the table")
    assert not [one for one in recwarn if one.category is DataWarning]
