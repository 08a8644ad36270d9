import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import FilterReport, k_core, min_rating, read_ratings, time_window
from recsys.errors import ConfigError, DataError

logs = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=40)


def read(pairs):
    return read_ratings(
        pd.DataFrame([tuple(pair) for pair in pairs], columns=["user_id", "item_id"])
    )


def pairs_of(log):
    users, items = log.users.ids[log.user_index], log.items.ids[log.item_index]
    return list(zip(users.tolist(), items.tolist(), strict=True))


def core_one_by_one(pairs, min_user_interactions, min_item_interactions):
    """Remove the first row below a minimum, and start again."""
    pairs = list(pairs)
    for row in pairs:
        of_user = sum(user == row[0] for user, _ in pairs)
        of_item = sum(item == row[1] for _, item in pairs)
        if of_user < min_user_interactions or of_item < min_item_interactions:
            pairs.remove(row)
            return core_one_by_one(pairs, min_user_interactions, min_item_interactions)
    return pairs


@given(pairs=logs, min_user_interactions=st.integers(1, 4), min_item_interactions=st.integers(1, 4))
def test_k_core_agrees_with_a_slow_search(pairs, min_user_interactions, min_item_interactions):
    log = read(sorted(pairs))
    expected = core_one_by_one(pairs_of(log), min_user_interactions, min_item_interactions)
    if not expected:
        with pytest.raises(DataError, match=f"removed all {len(pairs)} rows"):
            k_core(log, min_user_interactions, min_item_interactions)
        return
    core, report = k_core(log, min_user_interactions, min_item_interactions)
    assert pairs_of(core) == expected
    assert core.users.ids.tolist() == sorted({user for user, _ in expected})
    assert core.items.ids.tolist() == sorted({item for _, item in expected})
    assert report.before == (len(pairs), log.n_users, log.n_items)
    assert report.after == (len(expected), core.n_users, core.n_items)
    assert (report.rounds > 0) == (len(expected) < len(pairs))
    again, nothing = k_core(core, min_user_interactions, min_item_interactions)
    assert again.digest == core.digest
    assert (nothing.rounds, nothing.removed) == (0, (0, 0, 0))


def test_k_core_by_hand():
    # User 4 has one row; without it item d has one, then user 3, then item c.
    log = read(["1a", "1b", "1c", "2a", "2b", "3c", "3d", "4d"])
    core, report = k_core(log, min_user_interactions=2, min_item_interactions=2)
    assert pairs_of(core) == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]
    assert str(report) == (
        "k_core(min_user_interactions=2, min_item_interactions=2) removed 4 of 8 rows (50.0%), "
        "2 of 4 users, 2 of 4 items in 4 rounds"
    )


def test_an_empty_result_is_an_error_with_a_remedy():
    message = "removed all 2 rows: lower min_user_interactions or min_item_interactions"
    with pytest.raises(DataError, match=message):
        k_core(read(["1a", "1b"]))


def test_min_rating_by_hand(small_log):
    few, report = min_rating(read_ratings(small_log), 4.5)
    # 1 rated 30 with 5, 2 rated 10 with 5, 3 rated 10 with 4.5.
    assert pairs_of(few) == [(1, 30), (2, 10), (3, 10)]
    assert few.rating.tolist() == [5, 5, 4.5]
    assert few.timestamp.tolist() == [120, 120, 300]
    assert few.catalogue["title"].tolist() == ["10", "30"]
    assert report.removed == (6, 0, 3)
    assert report.rounds == 1
    assert str(report) == (
        "min_rating(4.5) removed 6 of 9 rows (66.7%), 0 of 3 users, 3 of 5 items"
    )


def test_a_rating_that_float32_does_not_hold_exactly_counts_as_written():
    log = read_ratings(pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "rating": [3.7, 3.6]}))
    assert pairs_of(min_rating(log, 3.7)[0]) == [(1, 1)]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, 9),
        (120, None, 6),
        (None, 120, 3),
        (120, 140, 3),  # from the first on, before the second
        ("1970-01-01 00:02", "1970-01-01 00:02:20", 3),
    ],
)
def test_time_window_by_hand(small_log, start, end, expected):
    # Times are 100 110 120 140, 110 120 130, 200 300.
    few, report = time_window(read_ratings(small_log), start, end)
    assert len(few) == report.after.rows == expected


def test_the_report_names_the_limits_of_a_window(small_log):
    _, report = time_window(read_ratings(small_log), 120, end=140)
    assert report.name == "time_window(from 120, before 140)"
    # User 3 came later.
    assert report.removed == (6, 1, 3 - 1)


def test_an_empty_window_is_an_error_that_names_the_time_range(small_log):
    reach = (
        "widen the window .the timestamps are from 1970-01-01T00:01:40 to 1970-01-01T00:05:00 UTC"
    )
    with pytest.raises(DataError, match=reach):
        time_window(read_ratings(small_log), start="2000-01-01")
    with pytest.raises(ConfigError, match="'then' is not a time"):
        time_window(read_ratings(small_log), start="then")


def test_a_minimum_above_all_ratings_is_an_error_that_names_the_highest(small_log):
    with pytest.raises(DataError, match=r"min_rating\(6\) .*the highest rating is 5"):
        min_rating(read_ratings(small_log), 6)


def test_a_missing_column_is_named():
    log = read(["1a", "1b"])
    with pytest.raises(DataError, match="no column 'rating'"):
        min_rating(log, 4)
    with pytest.raises(DataError, match="no column 'timestamp'"):
        time_window(log)


def test_a_filter_does_not_modify_its_input(small_log):
    log = read_ratings(small_log)
    before = log.digest
    few, _ = min_rating(log, 4.5)
    few.item_index[:] = 0
    assert read_ratings(small_log).digest == before
    assert len(log.catalogue) == 5


def test_the_report_of_a_filter_without_effect():
    _, report = k_core(read(["1a", "1b"]), 1, 1)
    assert isinstance(report, FilterReport)
    assert str(report).endswith("removed 0 of 2 rows (0.0%), 0 of 1 users, 0 of 2 items")
