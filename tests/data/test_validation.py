"""Policies for invalid rows, and the report."""

import gzip

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import Checks, DataWarning, read_ratings
from recsys.errors import ConfigError, DataError

HEADER = "userId,movieId,rating,timestamp\n"
GOOD = ["1,30,4.0,20", "1,10,3.5,10", "2,10,5.0,30", "3,30,1.0,20", "3,20,2.5,15"]
MORE = [f"5,{item},3.0,{item}" for item in range(100, 110)]
NOW = 1_000_000_000

# An invalid row, the check that it fails, and the error message.
BAD_ROWS = [
    (",20,4.0,20", "missing_id", "column 'user_id': (empty) is not an id"),
    ("4,,4.0,20", "missing_id", "column 'item_id': (empty) is not an id"),
    ("  ,20,4.0,20", "missing_id", "column 'user_id': '  ' is not an id"),
    ("4\x00,20,4.0,20", "missing_id", r"column 'user_id': '4\x00' is not an id"),
    ("u4,20,4.0,20", "id_type", "column 'user_id': 'u4' is not an integer"),
    ("4,20.5,4.0,20", "id_type", "column 'item_id': '20.5' is not an integer"),
    ("4,99999999999999999999,4.0,20", "id_type", "'99999999999999999999' is not an integer"),
    ("4,20,good,20", "bad_rating", "column 'rating': 'good' is not a number"),
    ("4,20,,20", "missing_rating", "column 'rating': (empty) is no rating"),
    ("4,20,inf,20", "bad_rating", "column 'rating': inf is not a number"),
    ("4,20,nan,20", "missing_rating", "column 'rating': nan is no rating"),
    ("4,20,NULL,20", "missing_rating", "column 'rating': 'NULL' is no rating"),
    ("4,20,5 stars,20", "bad_rating", "column 'rating': '5 stars' is not a number"),
    ("4,20,0.4,20", "rating_scale", "is not a rating from 0.5 to 5"),
    ("4,20,55,20", "rating_scale", "column 'rating': 55.0 is not a rating from 0.5 to 5"),
    ("4,20,4.0,", "bad_timestamp", "column 'timestamp': (empty) is not a time"),
    (
        "4,20,4.0,noon",
        "bad_timestamp",
        "'noon' is not a time as the others are: positions, not",
    ),
    ("4,20,4.0,1.5", "bad_timestamp", "column 'timestamp': '1.5' is not a time"),
    ("4,20,4.0,1e30", "bad_timestamp", "column 'timestamp': '1e30' is not a time"),
    ("4,20,4.0,2001-01-01", "bad_timestamp", "column 'timestamp': '2001-01-01' is not a time"),
    ("4,20,4.0,-1", "negative_time", "column 'timestamp': -1 is before 1970"),
    ("4,20,4.0,1000000001", "future_time", "1000000001 is in the future"),
    ("4,20,4.0", "malformed_row", "'4,20,4.0' has 3 columns instead of 4"),
    ("4,20,4.0,20,7", "malformed_row", "'4,20,4.0,20,7' has 5 columns instead of 4"),
    ("4;20;4.0;20", "malformed_row", "'4;20;4.0;20' has 1 columns instead of 4"),
    ("userId,movieId,rating,timestamp", "bad_rating", "'rating' is not a number"),
]


def written(folder, *rows, name="ratings.csv"):
    path = folder / name
    content = (HEADER + "\n".join(rows) + "\n").encode()
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return path


def read(source, **settings):
    """The ratings and the report."""
    reports = []
    checks = Checks(now=NOW, **settings)
    ratings = read_ratings(source, checks=checks, on_report=reports.append)
    return ratings, reports[0]


def equal(first, second):
    return first.digest == second.digest


@pytest.mark.parametrize(("row", "check", "message"), BAD_ROWS, ids=[row for row, _, _ in BAD_ROWS])
@pytest.mark.parametrize("name", ["ratings.csv", "ratings.csv.gz"])
def test_an_invalid_row_is_quarantined(tmp_path, row, check, message, name):
    expected, _ = read(written(tmp_path, *GOOD, *MORE, name=name))
    path = written(tmp_path, *GOOD[:2], "", row, *GOOD[2:], *MORE, name=name)
    ratings, report = read(path)
    assert equal(ratings, expected)
    assert (report.n_rows, report.n_used) == (16, 15)
    (finding,) = [f for f in report.findings if f.policy == "quarantine"]
    assert (finding.check, finding.n_rows) == (check, 1)
    assert message in finding.first
    assert f"{path}, line 5" in finding.first
    assert report.quarantine_path == tmp_path / f"{name}.quarantine.parquet"
    (written_row,) = pq.read_table(report.quarantine_path).to_pylist()
    assert str(report.quarantined_table.to_pylist()) == str([written_row])
    assert [written_row[name] for name in ("file", "line", "check")] == [str(path), 5, check]
    if check != "malformed_row":
        user, *_ = row.split(",")
        written_user = written_row["user_id"]
        assert ("" if written_user is None else str(written_user)) == user


@pytest.mark.parametrize(("row", "check", "message"), BAD_ROWS, ids=[row for row, _, _ in BAD_ROWS])
def test_an_invalid_row_can_be_an_error(tmp_path, row, check, message):
    path = written(tmp_path, *GOOD[:2], "", row, *GOOD[2:], *MORE)
    with pytest.raises(DataError) as caught:
        read(path, **{check: "error"})
    for part in (f"{path}, line 5", message, f"({check}, 1 such row)"):
        assert part in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ratings.csv"]


@pytest.mark.parametrize(
    ("row", "check"),
    [("4,20,7,20", "rating_scale"), ("4,20,4.0,2000000000", "future_time"),
     ("4,20,4.0,-20", "negative_time")],
)  # fmt: skip
def test_an_unusual_row_can_be_kept(tmp_path, row, check):
    path = written(tmp_path, *GOOD, row)
    ratings, report = read(path, **{check: "keep"}, outlying_time="keep")
    assert len(ratings) == report.n_used == 6
    assert report.metrics()[f"{check}_rows"] == 1
    assert report.quarantined.empty
    assert report.quarantine_path is None


def test_a_row_that_breaks_several_rules_is_counted_once(tmp_path):
    _, report = read(written(tmp_path, *GOOD, ",,bad,-1", "5,5,9,-1"))
    counts = {f.check: f.n_rows for f in report.findings if f.policy == "quarantine"}
    assert counts == {"missing_id": 1, "rating_scale": 1}
    assert report.quarantined["line"].tolist() == [7, 8]


def test_the_scale_is_configurable(tmp_path):
    path = written(tmp_path, *GOOD, "9,20,8,20")
    assert len(read(path, scale=(0, 10))[0]) == 6
    assert len(read(path, scale=(3, 5))[0]) == 3
    # Another log than MovieLens' may have any scale.
    path.write_text(path.read_text().replace("userId", "user_id").replace("movieId", "movie"))
    reports = []
    assert len(read_ratings(path, columns={"item_id": "movie"}, on_report=reports.append)) == 6


def test_ids_outside_movielens_may_be_text(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n1,a\nx,7\n007,7\n")
    ratings, _ = read(path)
    assert ratings.users.ids.tolist() == ["007", "1", "x"]
    assert ratings.items.ids.tolist() == ["7", "a"]


def test_a_quarantined_row_does_not_affect_the_type_of_ids(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,rating\n1,7,4\nuser_id,item_id,rating\n2,8,5\n")
    ratings, report = read(path)
    assert ratings.users.ids.tolist() == [1, 2]
    assert report.quarantined["reason"].tolist() == ["rating is not a number"]


def test_a_source_of_mostly_invalid_rows_is_an_error(tmp_path):
    path = written(tmp_path, *GOOD[:2], *(["4,20,***,20"] * 3))
    with pytest.raises(DataError) as caught:
        read(path)
    assert "60% of the rows are invalid" in str(caught.value)
    assert f"{path}, line 4, column 'rating': '***' is not a number" in str(caught.value)
    assert len(read(path, max_invalid_fraction=0.7)[0]) == 2


def test_items_missing_from_the_catalogue(tmp_path):
    path = written(tmp_path, *GOOD)
    (tmp_path / "movies.csv").write_text("movieId,title\n10,Heat\n20,Net\n")
    ratings, report = read(tmp_path)
    assert ratings.catalogue["title"].tolist() == ["Heat", "Net", "30"]
    assert report.metrics()["unknown_item_rows"] == 2
    ratings, report = read(tmp_path, unknown_item="quarantine")
    assert ratings.items.ids.tolist() == [10, 20]
    assert report.quarantined["line"].tolist() == [2, 5]
    with pytest.raises(DataError, match="line 2, column 'item_id': 30 is not in the catalogue"):
        read(path, unknown_item="error")


def test_users_with_one_event(tmp_path):
    path = written(tmp_path, *GOOD)
    ratings, report = read(path)
    assert ratings.n_users == 3
    (finding,) = report.findings
    assert (finding.check, finding.policy, finding.n_rows) == ("single_event", "keep", 1)
    ratings, report = read(path, single_event="quarantine")
    assert ratings.users.ids.tolist() == [1, 3]
    assert report.quarantined["line"].tolist() == [4]
    with pytest.raises(DataError, match="line 4 is the only row of its user"):
        read(path, single_event="error")


def test_repeated_rows(tmp_path):
    path = written(tmp_path, *GOOD, "1,30,2.0,5", "2,10,1.0,30")
    ratings, report = read(path)
    assert ratings.rating.tolist() == [3.5, 4.0, 1.0, 2.5, 1.0]  # of equal times, the last row
    assert report.quarantined["line"].tolist() == [4, 7]
    assert report.quarantined["reason"].unique().tolist() == [
        "has a later row of the same user and item"
    ]
    assert report.findings[0].remedy.startswith('set repeats = "allow" if users come back')
    with pytest.raises(DataError, match=r'line 4 has a later row.*set repeats = "allow"'):
        read(path, duplicate="error")


def test_rows_that_cannot_be_used_are_not_kept():
    for check in ("malformed_row", "missing_id", "bad_timestamp", "unknown_event", "unused_event"):
        with pytest.raises(ConfigError, match=f"{check} = 'keep': such a row cannot be used"):
            Checks(**{check: "keep"})
    for check in ("missing_rating", "bad_rating"):
        with pytest.raises(ConfigError, match=r"'quarantine', or set columns = {rating = \"\"}"):
            Checks(**{check: "keep"})
    with pytest.raises(ConfigError, match=r'repeats = "allow" to use all rows'):
        Checks(duplicate="keep")


def test_line_numbers_count_blank_and_malformed_lines(tmp_path):
    path = written(tmp_path, "", *GOOD[:1], "", "1,2", "", *GOOD[1:], "4,20,x,20", "1", "", "")
    _, report = read(path)
    assert report.quarantined["line"].tolist() == [5, 11, 12]
    assert report.quarantined["check"].tolist() == ["malformed_row", "bad_rating", "malformed_row"]


@pytest.mark.parametrize("kind", ["table", "parquet"])
def test_rows_of_tables_count_from_zero(tmp_path, kind):
    log = pd.DataFrame({"user_id": [1, None, 2], "item_id": [1, 2, 3]})
    source = log
    if kind == "parquet":
        source = tmp_path / "log.parquet"
        log.to_parquet(source)
    ratings, report = read(source)
    assert ratings.users.ids.tolist() == [1, 2]
    assert report.quarantined["line"].tolist() == [1]
    assert "row 1, column 'user_id': (empty) is not an id" in str(report)
    assert report.quarantine_path == (
        tmp_path / "log.parquet.quarantine.parquet" if kind == "parquet" else None
    )


def test_the_quarantine_path_is_configurable(tmp_path):
    log = pd.DataFrame({"user_id": [1, None, 2], "item_id": [1, 2, 3]})
    with pytest.warns(DataWarning, match=r"2 of 3 rows .* quarantined rows are in .*away\.parquet"):
        read_ratings(log, quarantine_path=tmp_path / "new" / "away.parquet")
    assert len(pd.read_parquet(tmp_path / "new" / "away.parquet")) == 1
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write the 1 quarantined rows"):
        read_ratings(log, quarantine_path=tmp_path / "file" / "away.parquet")


def test_the_quarantine_file_is_replaced_and_never_read(tmp_path):
    path = tmp_path / "log.parquet"
    pd.DataFrame({"user_id": [1, None, 2], "item_id": [1, 2, 3]}).to_parquet(path)
    with pytest.warns(DataWarning):
        read_ratings(path)
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.warns(DataWarning):
        assert len(read_ratings(tmp_path)) == 2
    pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2]}).to_parquet(path)
    assert len(read_ratings(tmp_path)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_missing_timestamps_are_reported(tmp_path):
    with pytest.warns(
        DataWarning, match="no timestamps: rows are assumed to be in chronological order"
    ):
        read_ratings(pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2]}))


def test_the_report_as_table_text_and_metrics(tmp_path):
    _, report = read(written(tmp_path, *GOOD, "4,20,9,20"))
    assert report.table()["check"].tolist() == ["rating_scale", "single_event"]
    assert str(report).startswith(
        f"{tmp_path / 'ratings.csv'}: 5 of 6 rows are used; rating_scale: 1"
    )
    assert report.metrics() == {
        "read_rows": 6, "used_rows": 5, "rating_scale_rows": 1, "single_event_rows": 1
    }  # fmt: skip


def test_a_kept_fault_hides_no_other(tmp_path):
    (tmp_path / "movies.csv").write_text("movieId,title\n10,Heat\n20,Casino\n")
    rows = [
        "1,10,4.0,100", "1,99,abc,100", "1,20,5.0,100",
        "2,10,3.0,100", "2,99,50,yesterday", "2,20,2.0,100",
        "3,10,3.0,100", "3,99,-1,99999999999", "3,20,2.0,100",
    ]  # fmt: skip
    written(tmp_path, *rows)
    log, report = read(tmp_path)
    assert set(log.rating.tolist()) == {4, 5, 3, 2}
    assert log.items.ids.tolist() == [10, 20]
    assert report.quarantined[["line", "check"]].to_numpy().tolist() == [
        [3, "bad_rating"], [6, "rating_scale"], [9, "rating_scale"]
    ]  # fmt: skip
    assert report.metrics()["unknown_item_rows"] == 3  # kept rules count every row
    log, report = read(tmp_path, rating_scale="keep")
    assert report.quarantined["check"].tolist() == ["bad_rating", "bad_timestamp", "future_time"]
    assert report.metrics()["rating_scale_rows"] == 2  # "abc" is not off the scale
    with pytest.raises(DataError, match=r"line 9, .*'99999999999' is in the future"):
        read(tmp_path, rating_scale="keep", future_time="error")


# Values of a row, with the checks that each of them breaks, in the order of the rules.
FIELDS = {
    "user_id": {"1": (), "2": (), "": ("missing_id",)},
    "item_id": {"10": (), "99": ("unknown_item",), "": ("missing_id",)},
    "rating": {"3.5": (), "50": ("rating_scale",), "abc": ("bad_rating",)},
    "timestamp": {
        "100": (), "x": ("bad_timestamp",), "-5": ("negative_time",), "2000000000": ("future_time",)
    },
}  # fmt: skip
LENIENT = ["unknown_item", "rating_scale", "negative_time", "future_time"]
faulty_rows = st.tuples(*(st.sampled_from(list(values)) for values in FIELDS.values()))


@given(
    rows=st.lists(faulty_rows, min_size=1, max_size=12),
    kept=st.sets(st.sampled_from(LENIENT)),
)
@settings(max_examples=60)
def test_rules_equal_a_loop_over_rows(rows, kept, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    (folder / "movies.csv").write_text("movieId,title\n10,Heat\n")
    good = ["8,10,4.0,100"] * 14  # most rows decide how times are read
    path = written(folder, *good, *(",".join(row) for row in rows))
    policies = {check: "keep" if check in kept else "quarantine" for check in LENIENT}
    reports = []
    checks = Checks(now=NOW, **policies, max_invalid_fraction=1, outlying_time="keep")
    read_ratings(path, repeats="allow", time_unit="s", checks=checks, on_report=reports.append)
    (report,) = reports
    reasons, counts = [], dict.fromkeys(kept, 0)
    for line, row in enumerate(rows, start=16):
        broken = [c for values, v in zip(FIELDS.values(), row, strict=True) for c in values[v]]
        broken.sort(key=lambda check: check == "unknown_item")  # it comes last
        reason = next((check for check in broken if check not in kept), None)
        if reason is not None:
            reasons.append([line, reason])
        for check in kept & set(broken):
            counts[check] += 1
    found = report.quarantined
    assert ([] if found.empty else found[["line", "check"]].to_numpy().tolist()) == reasons
    assert {check: int(report.metrics().get(f"{check}_rows", 0)) for check in kept} == counts


def sales(n_walk_in):
    """200 customers with three items each, and sales without an account as one customer."""
    rows = [(user, item) for user in range(200) for item in range(user % 5, user % 5 + 3)]
    rows += [(999, item % 7) for item in range(n_walk_in)]
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


def read_sales(n_walk_in, **settings):
    reports = []
    checks = Checks(**settings)
    log = read_ratings(sales(n_walk_in), repeats="allow", checks=checks, on_report=reports.append)
    return log, reports[0]


def test_a_user_who_may_stand_for_many_people_is_pointed_out():
    log, report = read_sales(180)
    assert len(log) == 780
    (finding,) = report.findings
    assert (finding.check, finding.policy, finding.n_rows) == ("frequent_user", "keep", 180)
    assert "999 has 23% of the rows, 180; the median user has 3" in finding.first
    assert "frequent_user=quarantine" in finding.remedy
    log, report = read_sales(180, frequent_user="quarantine")
    assert len(log) == 600
    assert 999 not in log.users.ids
    assert report.n_invalid == 0
    assert "frequent_user" not in report.findings[0].remedy


@pytest.mark.parametrize("n_walk_in", [31, 149])
def test_a_user_is_frequent_by_share_and_by_comparison(n_walk_in):
    """31 of 631 rows are less than 5 %; 149 is less than fifty times three."""
    _, report = read_sales(n_walk_in)
    assert not report.findings
