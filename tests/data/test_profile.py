"""What a log was understood to be, computed by hand."""

import json

import pandas as pd
import pytest

from recsys.data import read_ratings


def bar(lowest, highest, n_rows):
    return {"lowest": lowest, "highest": highest, "n_rows": n_rows}


def profile(source, **options):
    """The profile of a source, and its report."""
    reports = []
    read_ratings(source, **options, on_report=reports.append)
    return reports[0].profile, reports[0]


@pytest.fixture
def log(tmp_path):
    """Two users and three items; the second row is repeated later, the last has no rating."""
    (tmp_path / "movies.csv").write_text("item_id,title\n7,Heat\n8,Casino\n9,Ronin\n")
    path = tmp_path / "log.csv"
    rows = [
        ("ann", 7, 4.5, 1_000_000_000_500),
        ("ann", 8, 1, 1_000_000_000_900),
        ("ann", 9, 4.5, 1_000_000_000_900),
        ("bob", 7, 5, 1_000_000_007_000),
        ("ann", 8, 2, 1_000_000_009_000),
        ("bob", 9, "x", 1_000_000_007_000),
    ]
    content = "\n".join(",".join(map(str, (*row, "de"))) for row in rows)
    path.write_text(f"user_id,item_id,rating,timestamp,country\n{content}\n")
    return path


def test_a_profile_counts_what_is_used(log):
    found, report = profile(log)
    assert (report.n_rows, report.n_used) == (6, 4)
    assert (found.n_users, found.n_items) == (2, 3)
    assert found.files == [
        {"format": "CSV, UTF-8", "n_files": 1, "n_rows": 6, "first": str(log), "last": str(log)}
    ]
    assert [tuple(column.values()) for column in found.columns] == [
        ("user_id", "user_id", "text, such as 'ann'"),
        ("item_id", "item_id", "integers"),
        ("rating", "rating", "numbers"),
        ("timestamp", "timestamp", "times"),
    ]
    # Five rows are valid, one of them is repeated.
    assert found.repeated_fraction == 1 / 5


def test_ratings_have_a_histogram(log):
    ratings = profile(log)[0].ratings
    assert (ratings["lowest"], ratings["highest"]) == (2, 5)
    assert ratings["histogram"] == [bar(2, 2, 1), bar(4.5, 4.5, 2), bar(5, 5, 1)]


def test_many_distinct_ratings_are_binned():
    table = pd.DataFrame({"user_id": 1, "item_id": range(101), "rating": range(101)})
    ratings = profile(table)[0].ratings
    assert [bar["n_rows"] for bar in ratings["histogram"]] == [10] * 9 + [11]
    assert ratings["histogram"][3] == bar(30, 40, 10)


def test_counts_are_in_bins_of_equal_ratio():
    plays = [1024] + [n for n in range(1, 40) for _ in range(2)]
    table = pd.DataFrame({"user_id": 1, "item_id": range(len(plays)), "rating": plays})
    bars = profile(table)[0].ratings["histogram"]
    assert [bar["lowest"] for bar in bars] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert [bar["n_rows"] for bar in bars] == [2, 4, 8, 16, 32, 16, 0, 0, 0, 1]


def test_times_are_those_of_the_source(log):
    times = profile(log)[0].times
    assert times["unit"] == "milliseconds since 1970"
    assert times["first"] == "2001-09-09T01:46:40Z"
    assert times["median"] == "2001-09-09T01:46:40Z"
    assert times["last"] == "2001-09-09T01:46:49Z"
    # Items 7 and 9 are within the same second, not at the same time.
    assert times["tied_fraction"] == 0


def test_ties_are_counted_within_users():
    rows = [(1, 7, 5), (1, 8, 5), (1, 9, 5), (2, 7, 5), (2, 8, 6)]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    assert profile(table)[0].times["tied_fraction"] == 2 / 5
    assert not profile(table)[0].times["whole_days"]


def test_days_without_a_time_of_day_are_pointed_out():
    table = pd.DataFrame({"user_id": [1, 1], "item_id": [7, 8], "date": ["2020-03-01"] * 2})
    text = "no row has a time of day: those of a day keep the file's order"
    assert profile(table)[0].sections()["Times"]["days"] == text
    hint = "; if a column that is not used has it, join the two"
    times = profile(table.assign(hour=["18:00", "09:00"]))[0].sections()["Times"]
    assert times["days"] == text + hint
    later = table.assign(date=["2020-03-01", "2020-03-02"])
    assert "days" not in profile(later)[0].sections()["Times"]


def test_the_first_rows_that_are_used_are_shown(log):
    first, second, third = profile(log)[0].examples
    time = "2001-09-09T01:46:40.500Z"
    assert list(first.values()) == [str(log), "line", 2, "ann", 7, "Heat", 4.5, time]
    # Line 3 is repeated in line 6.
    assert (second["line"], second["title"], second["timestamp"][-5:]) == (4, "Ronin", ".900Z")
    assert (third["line"], third["user_id"]) == (5, "bob")
    assert third["timestamp"] == "2001-09-09T01:46:47Z"


def test_a_log_of_pairs_says_what_follows():
    table = pd.DataFrame({"user_id": [1, 1], "item_id": [7, 8]})
    found, report = profile(table)
    assert found.ratings is None
    assert found.times is None
    assert "ratings: none: every row is positive" in report.summary()
    assert "times: none: rows are in chronological order" in report.summary()


def test_a_summary_has_few_lines(log):
    lines = profile(log)[1].summary().splitlines()
    assert lines[0] == f"{log}: 4 of 6 rows are used: 2 users, 3 items"
    assert 3 <= len(lines) <= 7


def test_a_report_is_json(log):
    _, report = profile(log)
    description = json.loads(json.dumps(report.to_dict()))
    assert description["ratings"]["histogram"][0] == {"lowest": 2, "highest": 2, "n_rows": 1}
    assert description["examples"][0]["timestamp"] == "2001-09-09T01:46:40.500Z"
    checks = [finding["check"] for finding in description["findings"]]
    assert checks == ["bad_rating", "duplicate", "single_event"]
    assert dict(report.profile.table().to_numpy().tolist())["users"] == "2"


@pytest.mark.parametrize(("n_high", "is_few"), [(1, True), (2, False)])
def test_few_positive_ratings_are_pointed_out(n_high, is_few):
    ratings = [3.0] * n_high + [1.0] * (20 - n_high)
    table = pd.DataFrame({"user_id": [*range(20)], "item_id": [1, 2] * 10, "rating": ratings})
    reports = []
    read_ratings(table, on_report=reports.append)
    positive = reports[0].profile.sections()["Ratings"]["positive"]
    assert ("few: cooccurrence.min_rating says" in positive) is is_few
