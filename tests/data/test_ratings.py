"""Ratings: parsing, values that stand for missing ones, the scale and what is positive."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence import CooccurrenceConfig, count_cooccurrence
from recsys.data import Checks, load_interactions, read_ratings, save_interactions
from recsys.data.options import ReadOptions
from recsys.data.ratings import find_scale, find_sentinel, parse_ratings
from recsys.errors import DataError

NONE, BAD = "missing", "bad"


def read(ratings, options=(), **checks):
    """Ratings of one user, in order, and the report."""
    table = pd.DataFrame({"user_id": 1, "item_id": range(len(ratings)), "rating": ratings})
    reports = []
    checks = Checks(max_invalid_fraction=1, **checks)
    log = read_ratings(table, checks=checks, on_report=reports.append, **dict(options))
    return log, reports[0]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["4", "4.5", ".5", "+3", "1e1", " 2 ", "-1"], [4, 4.5, 0.5, 3, 10, 2, -1]),
        (["4,5", "3,25", "1,000", "1.000", "2.5"], [4.5, 3.25, BAD, BAD, 2.5]),
        (["1.000", "2.5"], [1, 2.5]),
        (["", None, "NULL", "NA", "nan", "NaN", r"\N"], [NONE] * 7),
        (["-", " - ", "--", "\N{EN DASH}", "\N{EM DASH}", "?", ".", "4"], [NONE] * 7 + [4]),
        (["5 stars", "five", "1_000", "0x10", "inf", "1e300", "4/5"], [BAD] * 7),
        (["true", "FALSE", "True", None], [1, 0, 1, NONE]),
        (["true", "x", "false"], [1, BAD, 0]),
        (["true", "3", "false", "x"], [BAD, 3, BAD, BAD]),
        (["true", "3", "4", "2.5"], [BAD, 3, 4, 2.5]),
        ([], []),
    ],
)
def test_text_is_parsed_or_marked(texts, expected):
    column = pa.chunked_array([pa.array(texts, pa.string())])
    parsed = parse_ratings(column, ReadOptions())
    assert parsed.dtype == np.float32
    marked = [NONE if np.isnan(v) else BAD if np.isinf(v) else float(v) for v in parsed]
    assert marked == expected


def test_ratings_of_true_and_false_are_one_and_zero():
    log, _ = read([True, False, True])
    assert log.rating.tolist() == [1, 0, 1]
    assert (log.scale, log.positive_rating) == ((0, 1), 0.8)


def test_text_for_a_missing_rating_is_declared():
    ratings = ["4", "Unrated", "nr", "-1", "3", "nr"]
    log, report = read(ratings, {"missing_ratings": ["unrated", "-1"]})
    assert log.rating.tolist() == [4, 3]
    assert report.quarantined["check"].tolist() == ["missing_rating", "bad_rating"] * 2
    with pytest.raises(DataError, match="list what stands for a missing one in missing_ratings"):
        read(ratings, bad_rating="error")


def test_missing_ratings_are_declared():
    log, report = read([4, -1, 5, None, 3], {"missing_ratings": [-1]})
    assert log.rating.tolist() == [4, 5, 3]
    assert report.quarantined["check"].tolist() == ["missing_rating"] * 2
    assert "row 1, column 'rating': -1.0 is no rating" in str(report)
    with pytest.raises(
        DataError, match=r"no row is left: missing_rating: 2 .*to use all rows without ratings"
    ):
        read([None, -1], {"missing_ratings": [-1]})


@pytest.mark.parametrize(
    ("ratings", "value"),
    [
        ([5, 3, -1, 4], -1),
        ([0.5, 3, -2, 4], -2),
        ([1, 2, 0, 3], 0),
        ([10, 7, 0, 3, 0], 0),
        ([1, 5, 99, 4], 99),
        ([0.5, 5, 999, 99], 999),
        ([1, 2, 3, 4, 9, 9], 9),
        ([-9.5, 3.25, 9.5, -2, 99], 99),
        ([4, 4, 4, 99], 99),
        ([5, 4, 0, 5], 0),
    ],
)
def test_a_value_outside_of_all_others_is_refused(ratings, value):
    assert find_sentinel(np.array(ratings, dtype=np.float32)).numbers == [value]
    with pytest.raises(DataError) as caught:
        read(ratings)
    message = str(caught.value)
    row = ratings.index(value)
    assert f"row {row}, column 'rating'" in message
    assert f"missing_ratings = [{value}]" in message
    assert "(sentinel_rating, " in message
    log, report = read(ratings, sentinel_rating="keep")
    assert len(log) == len(ratings)
    assert report.metrics()["sentinel_rating_rows"] == ratings.count(value)
    log, report = read(ratings, sentinel_rating="quarantine")
    assert set(report.quarantined["check"]) == {"sentinel_rating"}
    assert value not in log.rating
    others = [rating for rating in ratings if rating != value]
    log, _ = read(ratings, {"missing_ratings": [value]}, sentinel_rating="keep")
    assert sorted(log.rating.tolist()) == sorted(others)


def test_two_negative_values_are_told_at_once():
    with pytest.raises(
        DataError, match=r"row 2.*: -99.*2 such rows.* missing_ratings = \[-99, -1\]"
    ):
        read([8, 3, -99, -1])
    assert find_sentinel(np.array([-2, -1, 0, 1, 2], dtype=np.float32)) is None
    assert find_sentinel(np.array([-2, -1, 1, 5], dtype=np.float32)).numbers == [-2, -1]


def test_the_remedies_for_zero_are_both_ways_out():
    ratings = [1, 0, 5, 3]
    with pytest.raises(DataError, match=r"missing_ratings = \[0\]; .* set scale = \[0, 5\]"):
        read(ratings)
    assert read(ratings, scale=(0, 5))[0].rating.tolist() == ratings
    assert read(ratings, {"missing_ratings": [0]})[0].rating.tolist() == [1, 5, 3]
    log, report = read([*ratings, 99], scale=(1, 5))  # the scale decides
    assert log.rating.tolist() == [1, 5, 3]
    assert report.quarantined["check"].tolist() == ["rating_scale"] * 2


grid = {
    "0.5 to 5": np.arange(0.5, 5.5, 0.5),
    "1 to 10": np.arange(1.0, 11),
    "0 and 1": np.array([0.0, 1]),
    "-1 and 1": np.array([-1.0, 1]),
    "-10 to 10": np.arange(-10.0, 11),
    "0 to 100": np.arange(0.0, 101),
    "halves from 0": np.arange(0.0, 5.5, 0.5),
}


@pytest.mark.parametrize("values", grid.values(), ids=grid)
@given(data=st.data())
def test_scales_have_no_values_outside(values, data):
    # All values of the scale occur, or those above a gap are no sentinels of it.
    drawn = data.draw(st.lists(st.sampled_from(values.tolist()), max_size=30))
    rating = np.array([*values, *drawn], dtype=np.float32)
    assert find_sentinel(rating) is None


@pytest.mark.parametrize("seed", range(20))
def test_counts_have_no_values_outside(seed):
    rng = np.random.default_rng(seed)
    counts = np.minimum(rng.zipf(1.5, size=2000), 10**6).astype(np.float32)
    assert find_sentinel(counts) is None
    assert find_scale(counts) is None


@pytest.mark.parametrize(
    ("ratings", "scale", "positive"),
    [
        ([0.5, 5], (0.5, 5), 4),
        ([1, 4.5], (1, 5), 4),
        ([1, 4], (1, 4), 3.2),
        ([1, 10], (1, 10), 8),
        ([2, 9], (2, 10), 8),
        ([1, 7], (1, 7), 5.6),
        ([0, 1], (0, 1), 0.8),
        ([20, 85], (20, 100), 80),
        ([-10, -5, 9], (-10, 10), 8),
        ([1, 5000], None, None),
        ([0.1, 300.5], None, None),
        ([0, 0], (0, 0), None),
    ],
)
def test_what_is_positive_follows_the_scale(ratings, scale, positive):
    log, _ = read(ratings)
    assert log.scale == scale
    assert log.positive_rating == pytest.approx(positive)
    assert CooccurrenceConfig().resolve(log).min_rating == pytest.approx(positive)


def test_the_declared_scale_decides_what_is_positive():
    log, _ = read([1, 2, 3, 4], scale=(0, 10))
    assert (log.scale, log.positive_rating) == ((0, 10), 8)


def test_every_part_of_a_log_has_its_scale(tmp_path):
    table = pd.DataFrame(
        {"user_id": [1, 1, 1, 2, 2, 2], "item_id": [1, 2, 3] * 2, "rating": [8, 8, 2, 8, 9, 10]}
    )
    log = read_ratings(table, on_report=lambda report: None)
    first = log.filter(log.user_index == 0).compact()
    assert first.scale == (2, 10)
    saved = load_interactions(save_interactions(first, tmp_path / "log"))
    assert saved.scale == (2, 10)
    for part in (first, saved):
        counts = count_cooccurrence(part)
        assert counts.min_rating == 8
        assert counts.matrix.toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_a_log_named_like_movielens_may_have_ten_stars(tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_text("1::10::5::100\n2::20::8::101\n2::30::10::102\n")
    log = read_ratings(path, on_report=lambda report: None)
    assert log.rating.tolist() == [5, 8, 10]
    assert log.positive_rating == 8
