"""Ids are 64-bit integers or text, as their column says, the same in every kind of source."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import Checks, read_ratings
from recsys.data import ids as module
from recsys.data.ids import encode_ids, parse_integers
from recsys.errors import DataError

FIRST, SECOND = 1234567890123456790, 1234567890123456791
HIGHEST, LOWEST = 2**63 - 1, -(2**63)


def read(source, **options):
    reports = []
    checks = Checks(now=2_000_000_000, **options)
    return read_ratings(source, checks=checks, on_report=reports.append), reports[0]


def users_of(folder, ids, name="log.csv", **checks):
    """Read a text file with these users, each with another item, and a report."""
    path = folder / name
    separator = "\t" if name.endswith(".tsv") else ","
    lines = [f"{user}{separator}{item}" for item, user in enumerate(ids)]
    path.write_text("\n".join([f"user_id{separator}item_id", *lines]) + "\n")
    log, report = read(path, **checks)
    return log.users.ids.tolist(), report


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["2", "1"], [1, 2]),
        ([str(FIRST), str(SECOND)], [FIRST, SECOND]),
        ([str(HIGHEST), str(LOWEST), "0"], [LOWEST, 0, HIGHEST]),
        (["10.0", "10", "9.00"], [9, 10]),
        (["10", "NULL", "null", "NA", "N/A", "nan", "NaN", "None", r"\N", "<NA>", ""], [10]),
        (["-7", "7"], [-7, 7]),
        (["007", "7", "8"], ["007", "7", "8"]),
        (["1.2E+05", "1.3E+05"], ["1.2E+05", "1.3E+05"]),
        ([str(2**63), "1"], ["1", str(2**63)]),
        ([str(2**64 - 1), *"123456789"], [*"1", str(2**64 - 1), *"23456789"]),
        (["a", "A", "b"], ["A", "a", "b"]),
        (["\u00e9", "e\u0301"], ["e\u0301", "\u00e9"]),
        (["x", "x "], ["x", "x "]),
        (["1.5", "2.5"], ["1.5", "2.5"]),
        (["true", "false"], ["false", "true"]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
def test_ids_of_text_files(tmp_path, ids, expected, name):
    assert users_of(tmp_path, ids, name, max_invalid_fraction=1)[0] == expected


def test_ids_of_19_digits_have_their_titles(tmp_path):
    (tmp_path / "movies.csv").write_text(f"item_id,title\n{FIRST},One\n{SECOND}.0,Two\n3.0,Three\n")
    rows = [f"1,{FIRST},5,1700000000", f"1,{SECOND},4,1700000001", "1,3,4,1700000002"]
    (tmp_path / "log.csv").write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows))
    with pytest.raises(
        DataError, match=f"line 3, column 'item_id': '{SECOND}.0' is not an integer"
    ):
        read(tmp_path / "log.csv")  # so many digits after a point may have been rounded
    (tmp_path / "movies.csv").write_text(f"item_id,title\n{FIRST},One\n{SECOND},Two\n3.0,Three\n")
    log, report = read(tmp_path / "log.csv")
    assert dict(zip(log.catalogue["item_id"], log.catalogue["title"], strict=True)) == {
        3: "Three", FIRST: "One", SECOND: "Two"
    }  # fmt: skip
    assert "unknown_item_rows" not in report.metrics()


@pytest.mark.parametrize("row", ["bad,1700000001", "4,yesterday", "4,-1"])
def test_a_fault_elsewhere_does_not_change_the_type_of_ids(tmp_path, row):
    path = tmp_path / "log.csv"
    lines = [f"{FIRST},{FIRST},5,1700000000", f"{FIRST},{SECOND},{row}", f"{FIRST},3,3,1700000002"]
    path.write_text("user_id,item_id,rating,timestamp\n" + "\n".join(lines))
    log, _ = read(path)
    assert (log.users.ids.tolist(), log.items.ids.tolist()) == ([FIRST], [3, FIRST])


def test_zeros_before_ids_of_movielens_make_them_text(tmp_path):
    (tmp_path / "movies.dat").write_text("0120735::Padded (1998)::Comedy\n149::Other::Drama\n")
    path = tmp_path / "ratings.dat"
    rows = ["1::149::5::100", "1::150::4::101", "2::151::3::102", "3::0120735::4::103"]
    path.write_text("\n".join(rows) + "\n")
    log, report = read(tmp_path)
    assert log.items.ids.tolist() == ["0120735", "149", "150", "151"]
    assert log.users.ids.tolist() == [1, 2, 3]
    assert log.catalogue["title"].tolist() == ["Padded (1998)", "Other", "150", "151"]
    assert report.n_used == 4
    finding = next(f for f in report.findings if f.check == "id_type")
    assert (finding.policy, finding.n_rows) == ("keep", 1)
    assert "line 4, column 'item_id': '0120735' would change as a 64-bit integer" in finding.first


def test_ids_of_another_type_are_invalid_or_make_all_text(tmp_path):
    numbers = [str(n) for n in range(1, 19)]
    users, report = users_of(tmp_path, [*numbers, "u1", "+5"])  # 18 of 20 rows
    assert users == list(range(1, 19))
    assert report.quarantined["check"].tolist() == ["id_type"] * 2
    assert report.quarantined["line"].tolist() == [20, 21]
    users, report = users_of(tmp_path, [*numbers, "u1", "+5"], id_type="keep")
    assert users == sorted([*numbers, "u1", "+5"])
    assert report.metrics()["id_type_rows"] == 2
    with pytest.raises(DataError, match=r"line 20.*'u1' is not an integer.*set id_type=keep"):
        users_of(tmp_path, [*numbers, "u1", "+5"], id_type="error")
    users, report = users_of(tmp_path, [*numbers, "u1", "+5", "+6"])  # 18 of 21
    assert users == sorted([*numbers, "u1", "+5", "+6"])
    assert report.n_used == 21
    assert "line 20, column 'user_id': 'u1' is not a 64-bit integer, so the ids" in str(report)


def test_numbers_that_lost_digits_are_told(tmp_path):
    # Zeros before other ids are no reason to say nothing about it.
    for ids in (["9,60312E+09", "a", "b"], ["9,60312E+09", "0140449132", "0140449140"]):
        users, report = users_of(tmp_path, ids, "log.tsv")
        assert users == sorted(ids)
        (finding,) = [finding for finding in report.findings if finding.check == "id_type"]
        assert finding.n_rows == 1
        assert "'9,60312E+09' may be a number that lost digits" in finding.first
        assert "write them with all digits, in a spreadsheet as cells of text" in finding.first
    _, report = users_of(tmp_path, ["1.2E+18", "1.3E+18", "a"])
    assert "id_type: 2 rows kept" in str(report)
    assert "'1.2E+18' may be a number that lost digits, so the ids of this column" in str(report)
    _, report = users_of(tmp_path, ["ann", "bob"])
    assert "id_type" not in str(report)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([2.0, None], [2]),
        (pd.array([FIRST, None], dtype="Int64"), [FIRST]),
        ([Decimal(FIRST), Decimal(2)], [2, FIRST]),
        (np.array([2**64 - 1, 1], dtype=np.uint64), ["1", str(2**64 - 1)]),
        (["NULL", "7"], ["7", "NULL"]),  # text of a typed source is text
    ],
    ids=repr,
)
def test_ids_of_typed_sources(tmp_path, ids, expected):
    frame = pd.DataFrame({"user_id": ids, "item_id": [1, 2]})
    assert read(frame)[0].users.ids.tolist() == expected
    frame.to_parquet(tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet")[0].users.ids.tolist() == expected


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        ([b"a", b"b"], "binary"),
        ([[1], [2]], "list<.*: int64>"),
        ([{"a": 1}, {"a": 2}], "struct<a: int64>"),
        ([True, False], "bool"),
    ],
)
def test_values_that_are_not_ids_are_refused(tmp_path, ids, kind):
    frame = pd.DataFrame({"user_id": [1, 2], "movie": ids})
    frame.to_parquet(tmp_path / "log.parquet")
    for source in (frame, tmp_path / "log.parquet"):
        with pytest.raises(DataError, match=f"column 'movie': is of type {kind}, but ids are"):
            read_ratings(source, columns={"item_id": "movie"})


@pytest.mark.parametrize("values", [[2.0**53, 1.0], np.array([2**24 + 2, 1], dtype=np.float32)])
def test_floats_that_may_have_lost_digits_are_refused(values):
    with pytest.raises(DataError, match=r"column 'user_id': .* (of type float|stored).* integers"):
        read(pd.DataFrame({"user_id": values, "item_id": [1, 2]}))


def test_floats_with_fractions_are_refused():
    frame = pd.DataFrame({"user_id": [*np.arange(19.0), 2.5], "item_id": 1})
    with pytest.raises(DataError, match=r"column 'user_id': is of type double .*2\.5.*convert"):
        read(frame)


@pytest.mark.parametrize("factor", [module._FACTOR, np.uint64(0)], ids=["usual", "all collide"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
@pytest.mark.parametrize("last", ["b-00000001", "a", "\u00e9-0000001", None])
def test_many_distinct_ids_of_one_length(monkeypatch, factor, kind, last):
    monkeypatch.setattr(module, "_FACTOR", factor)
    n = module._SAMPLE
    texts = [f"{'bac'[i % 3]}-{i % 60_000:08}" for i in range(n)] + [last]
    column = pa.chunked_array([texts[:7], texts[7:n], texts[n:]], kind)
    encoded = encode_ids(column, has_types=False)
    assert (
        encoded.distinct.take(pa.array(encoded.codes, mask=encoded.codes < 0)).to_pylist() == texts
    )
    codes, sorted_ids = encoded.sorted_ids(np.ones(len(encoded.distinct), dtype=np.bool_))
    assert sorted_ids.tolist() == sorted({*texts} - {None})
    assert encoded.distinct.take(pa.array(codes)).to_pylist() == sorted_ids.tolist()


@given(
    values=st.lists(st.text("0123789.-+eE ", max_size=6) | st.integers(-(2**65), 2**65).map(str))
)
@settings(max_examples=300)
def test_integers_equal_a_slow_parser(values):
    def parse(text):
        sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
        whole, point, zeros = digits.partition(".")
        if point and (not zeros or set(zeros) != {"0"} or len(whole) > 15):
            return None
        if not whole.isdigit() or str(int(whole)) != whole or (sign and whole == "0"):
            return None
        value = int(sign + whole)
        return value if LOWEST <= value <= HIGHEST else None

    assert parse_integers(pa.array(values, pa.string())).to_pylist() == list(map(parse, values))


integers = st.one_of(
    st.integers(0, 30),
    st.integers(LOWEST, HIGHEST),
    st.integers(10**17, HIGHEST),
    st.integers(-9, 9),
)
words = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=3).map(
    lambda text: "x" + text
)


@given(
    rows=st.lists(integers, min_size=1, max_size=20)
    | st.lists(words, min_size=1, max_size=20)
    | st.lists(st.integers(2**63, 2**64 - 1), min_size=1, max_size=20)
)
@settings(max_examples=60)
def test_ids_are_the_same_in_every_kind_of_source(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    dtype = None if isinstance(rows[0], str) else np.uint64 if rows[0] >= 2**63 else np.int64
    frame = pd.DataFrame({"user_id": pd.Series(rows, dtype=dtype), "item_id": range(len(rows))})
    frame.to_csv(folder / "log.csv", index=False)
    frame.to_csv(folder / "log.tsv", index=False, sep="\t")
    frame.to_parquet(folder / "log.parquet")
    expected = sorted(set(rows if rows_fit(rows) else map(str, rows)))
    sources = [frame, *(folder / f"log.{suffix}" for suffix in ("csv", "tsv", "parquet"))]
    for source in sources:
        assert read(source)[0].users.ids.tolist() == expected


def rows_fit(rows):
    return isinstance(rows[0], str) or max(rows) <= HIGHEST


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([FIRST, LOWEST], [LOWEST, FIRST]),
        ([2**63, 7], ["7", str(2**63)]),
        (["007", 7], ["007", "7"]),
    ],
)
def test_ids_in_the_names_of_folders(tmp_path, ids, expected):
    for user in ids:
        folder = tmp_path / f"user_id={user}"
        folder.mkdir()
        pd.DataFrame({"item_id": [1, 2]}).to_parquet(folder / "part.parquet")
    assert read(tmp_path)[0].users.ids.tolist() == expected
