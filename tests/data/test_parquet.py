"""Parquet files: columns and types are settled over all parts, and partitions keep their text."""

import datetime as dt
import zipfile
from decimal import Decimal
from itertools import pairwise

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.cooccurrence.distributed import row_groups
from recsys.data import Checks, read_ratings
from recsys.data.arrow import read_table
from recsys.data.detection import detect_layout
from recsys.data.options import ReadOptions
from recsys.data.parquet import read_parquet
from recsys.errors import DataError

NOON = dt.datetime(2020, 7, 4, 12, tzinfo=dt.UTC)  # 1593864000


def read(source, **options):
    """The interactions and the report."""
    reports = []
    return read_ratings(source, on_report=reports.append, **options), reports[0]


def rows(**columns):
    """Two rows of user 1; columns that are None are left out."""
    given = {"user_id": [1, 1], "item_id": [10, 20], "rating": [4.0, 5.0], "timestamp": [100, 200]}
    columns = {name: values for name, values in (given | columns).items() if values is not None}
    return pa.table(columns)


@pytest.fixture
def write(tmp_path):
    """Writes tables as parts into a folder, by name or as `part-0.parquet`, and names it."""

    def write(*tables, **named):
        parts = {f"part-{number}": table for number, table in enumerate(tables)} | named
        for name, table in parts.items():
            path = tmp_path / "log" / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
        return tmp_path / "log"

    return write


def refused(source, message):
    """Both readers of Parquet refuse a source."""
    with pytest.raises(DataError, match=message):
        read_ratings(source)
    with pytest.raises(DataError, match=message):
        row_groups_of(source)


def row_groups_of(source):
    """The rows as a cluster count reads them."""
    return pa.concat_tables([group() for group in row_groups(source, None)[0]])


def test_integers_and_text_are_text_and_keep_their_zeros(write):
    folder = write(rows(), rows(user_id=["007", "7"]), rows(user_id=[7, 8]))
    interactions, report = read(folder)
    assert interactions.users.ids.tolist() == ["007", "1", "7", "8"]
    assert interactions.history_lengths.tolist() == [1, 2, 2, 1]  # "7" is in two parts
    assert report.profile.columns[0]["type"] == "text, such as '007'"


@pytest.mark.parametrize(
    ("missing", "parts"),
    [
        ({"rating": None}, ("rating", "part-0.parquet has user_id, item_id, timestamp;")),
        ({"timestamp": None}, ("timestamp", "part-0.parquet has user_id, item_id, rating;")),
    ],
    ids=["rating", "timestamp"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_a_part_without_a_column_of_others_is_refused(write, missing, parts, order):
    folder = write(*[rows(**missing), rows(genre=["a", "b"])][::order])
    refused(folder, r"part-1.parquet: has the columns .*, but .*part-0.parquet has .*choose with")
    if order == 1:
        refused(folder, parts[1])


def test_a_part_without_ids_is_refused(write):
    refused(write(rows(), rows(user_id=None)), r"part-1.parquet: no column 'user_id' among")


def test_columns_may_have_another_order_and_other_names(write):
    other = rows().select(["timestamp", "rating", "item_id", "user_id"])
    other = other.rename_columns(["timestamp", "rating", "movieId", "userId"])
    interactions, report = read(write(rows(), other.set_column(2, "movieId", [[30, 40]])))
    assert interactions.items.ids.tolist() == [10, 20, 30, 40]
    assert interactions.timestamp.tolist() == [100, 100, 200, 200]
    assert report.n_used == 4


def test_columns_that_are_not_used_may_differ(write):
    folder = write(rows(genre=["a", "b"]), rows(item_id=[30, 40], genre=[1, 2], price=[1.5, 2.5]))
    interactions, report = read(folder)
    assert interactions.n_items == 4
    assert report.make_profile().unused_columns == ["genre", "price"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (pa.int8(), pa.int64(), [1, 2]),
        (pa.uint32(), pa.int32(), [1, 2]),
        (pa.uint64(), pa.int32(), [1, 2]),
        (pa.float64(), pa.int32(), [1, 2]),
        (pa.float64(), pa.string(), ["1", "2"]),
        (pa.decimal128(38, 0), pa.int64(), [1, 2]),
        (pa.decimal128(38, 0), pa.float64(), [1, 2]),
        (pa.null(), pa.int64(), [2]),
        (pa.null(), pa.string(), ["2"]),
        (pa.null(), pa.large_string(), ["2"]),
        (pa.string(), pa.large_string(), ["1", "2"]),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), ["1", "2"]),
        (pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.string()), ["1", "2"]),
        (pa.dictionary(pa.int8(), pa.string()), pa.int64(), ["1", "2"]),
        (pa.dictionary(pa.int8(), pa.int64()), pa.int64(), [1, 2]),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", [1, -1])
def test_ids_of_two_types(write, first, second, expected, order):
    def part(value, kind):
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        value = str(value) if plain in (pa.string(), pa.large_string()) else value
        value = Decimal(value) if pa.types.is_decimal(kind) else value
        value = None if kind == pa.null() else value
        return rows(user_id=pa.array([value] * 2, kind))

    folder = write(*[part(1, first), part(2, second)][::order])
    assert read(folder)[0].users.ids.tolist() == expected


def test_numbers_that_fit_no_type_are_text(write):
    folder = write(
        rows(user_id=pa.array([2**64 - 1] * 2, pa.uint64())),
        rows(user_id=[-1, 2**53 + 1]),
        rows(user_id=[1.0, 2.0]),
    )
    expected = ["-1", "1", "18446744073709551615", "2", "9007199254740993"]
    assert read(folder)[0].users.ids.tolist() == expected


@pytest.mark.parametrize(
    "odd",
    [pa.array([1.5, 2.4]), pa.array([1.5, 2.4]).dictionary_encode(), [Decimal("1.5"), Decimal(2)]],
    ids=["float", "dictionary", "decimal"],
)
@pytest.mark.parametrize("other", [["2", "3"], pa.array([2**64 - 1, 3], pa.uint64()), [2, 3]])
@pytest.mark.parametrize("order", [1, -1])
def test_ids_with_fractions_are_refused_whatever_the_others_are(write, odd, other, order):
    folder = write(*[rows(user_id=odd), rows(user_id=other)][::order])
    refused(folder, r"column 'user_id': is of type .* and cannot be read as .*convert the column")


def test_ratings_of_several_types_are_numbers(write):
    folder = write(
        rows(user_id=[1, 1], rating=pa.array([4, 5], pa.int8())),
        rows(user_id=[2, 2], rating=pa.array([3.5, 4.5], pa.float32())),
        rows(user_id=[3, 3], rating=[Decimal("2.5"), Decimal("1.0")]),
        rows(user_id=[4, 4], rating=["1.5", "2"]),
    )
    assert read(folder)[0].rating.tolist() == [4.0, 5.0, 3.5, 4.5, 2.5, 1.0, 1.5, 2.0]


def test_times_of_several_units_have_the_finest(write):
    zone = pa.timestamp("ms", "Europe/Rome")
    folder = write(
        rows(timestamp=pa.array([NOON] * 2, pa.timestamp("s"))),
        rows(user_id=[2, 2], timestamp=pa.array([NOON + dt.timedelta(milliseconds=1)] * 2, zone)),
        rows(user_id=[3, 3], timestamp=pa.array([NOON.date()] * 2, pa.date32())),
    )
    table = read_parquet(detect_layout(folder), ReadOptions())
    assert table.columns["timestamp"].type == pa.timestamp("ms")
    expected = [1593864000_000] * 2 + [1593864000_001] * 2 + [1593820800_000] * 2
    assert table.columns["timestamp"].cast(pa.int64()).to_pylist() == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([NOON] * 2, [1593864000] * 2),
        (["2020-07-04T12:00:00"] * 2, [1593864000] * 2),
        (["2020-07-04T12:00:00"] * 2, [NOON] * 2),
    ],
    ids=["times and integers", "text and integers", "text and times"],
)
def test_times_of_different_kinds_are_refused(write, first, second):
    message = r"part-0.parquet, column 'timestamp': is of type .*, but .*part-1.parquet, column"
    refused(write(rows(timestamp=first), rows(timestamp=second)), message)


def test_times_beyond_the_finest_unit_are_at_its_ends(write):
    far = pa.array([2**60, None], pa.int64()).cast(pa.timestamp("us"))
    days = pa.array([-(2**31), 1], pa.int32()).cast(pa.date32())
    folder = write(
        rows(timestamp=pa.array([NOON] * 2, pa.timestamp("ns"))),
        rows(user_id=[2, 2], timestamp=far),
        rows(user_id=[3, 3], timestamp=days),
    )
    table = read_parquet(detect_layout(folder), ReadOptions())
    years = table.columns["timestamp"].to_numpy().astype("datetime64[Y]")
    assert years.astype(str).tolist() == ["2020", "2020", "2262", "NaT", "1677", "1970"]


def test_integers_and_whole_floats_are_exact_times(write):
    times = [1593864000_000_000_001, 1593864000_000_000_003]
    folder = write(rows(timestamp=times), rows(user_id=[2, 2], timestamp=[1.0, None]))
    table = read_parquet(detect_layout(folder), ReadOptions())
    assert table.columns["timestamp"].to_pylist() == [*times, 1, None]


def test_integers_floats_and_decimals_are_exact_times(write):
    folder = write(
        rows(timestamp=[1593864000, 1593864001]),
        rows(user_id=[2, 2], timestamp=[1593864000.438, 1e300]),
        rows(user_id=[3, 3], timestamp=[Decimal("1593864000.000000001"), None]),
    )
    table = read_parquet(detect_layout(folder), ReadOptions())
    given = ["1593864000", "1593864001", "1593864000.438", None, "1593864000.000000001", None]
    assert table.columns["timestamp"].to_pylist() == [v and Decimal(v) for v in given]
    assert read(folder)[0].timestamp.tolist() == [1593864000, 1593864001, 1593864000, 1593864000]


def test_parts_without_rows_are_told_and_decide_nothing(write):
    empty = pa.table({"user_id": pa.array([], pa.string()), "other": pa.array([], pa.int8())})
    folder = write(empty, rows(), empty)
    interactions, report = read(folder)
    assert interactions.users.ids.tolist() == [1]
    assert report.n_rows == 2
    table = read_parquet(detect_layout(folder), ReadOptions())
    assert [file.n_rows for file in table.files] == [2, 0, 0]
    assert sum(1 for _ in row_groups(folder, None)[0]) == 1


def test_a_log_without_rows_is_refused(write):
    with pytest.raises(DataError, match="there are no rows in it"):
        read_ratings(write(rows()[:0], rows()[:0]))


def test_rows_are_counted_per_file(write):
    folder = write(rows(), rows(user_id=[2, None], item_id=[30, 40]))
    _, report = read(folder, quarantine_path=folder.parent / "rows.quarantine.parquet")
    (finding,) = [finding for finding in report.findings if finding.check == "missing_id"]
    assert "part-1.parquet, row 1, column 'user_id': (empty)" in finding.first
    assert report.quarantined["line"].tolist() == [1]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PARE" * 5, b"no Parquet, but text"], ids=repr)
def test_a_broken_part_is_refused_by_name(write, content):
    folder = write(rows())
    (folder / "part-1.parquet").write_bytes(content)
    refused(folder, r"part-1.parquet: cannot be read as Parquet")


def test_a_part_with_broken_pages_is_refused_by_name(write):
    folder = write(rows())
    content = bytearray((folder / "part-0.parquet").read_bytes())
    content[4:60] = bytes(56)
    (folder / "part-0.parquet").write_bytes(content)
    refused(folder, r"part-0.parquet: cannot be read as Parquet")


def test_a_column_that_occurs_twice_is_refused(tmp_path):
    table = pa.table([[1], [2], [3]], names=["user_id", "item_id", "user_id"])
    pq.write_table(table, tmp_path / "log.parquet")
    refused(tmp_path / "log.parquet", "more than one column 'user_id'")


def test_nested_columns_are_refused(write):
    refused(write(rows(item_id=[[1, 2], [3]])), r"'item_id': is of type list.*but ids are")


def test_old_times_of_spark_are_read_in_microseconds(tmp_path):
    """In nanoseconds, the year 9999 would be another one."""
    never = 253402214400000000  # 9999-12-31
    times = pa.array([1593864000_000_003, 1593864000_000_001, never], pa.timestamp("us"))
    path = tmp_path / "log.parquet"
    table = rows(user_id=[1, 1, 1], item_id=[1, 2, 3], rating=None, timestamp=times)
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    read_times = read_parquet(detect_layout(path), ReadOptions()).columns["timestamp"]
    assert read_times.cast(pa.int64()).to_pylist() == times.cast(pa.int64()).to_pylist()


def test_an_archive_of_parts(write):
    folder = write(rows(), rows(user_id=["007", "7"]))
    with zipfile.ZipFile(folder.parent / "log.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    assert read(folder.parent / "log.zip")[0].digest == read(folder)[0].digest


def hive(folder, **tables):
    for name, table in tables.items():
        path = folder / name / "part.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path)
    return folder


def test_partitions_keep_their_text(tmp_path):
    without = rows(user_id=None)
    folder = hive(tmp_path, **{"year=2019/user_id=007": without, "year=2019/user_id=7": without})
    interactions, report = read(folder, checks=Checks(max_invalid_fraction=1))
    assert interactions.users.ids.tolist() == ["007", "7"]
    assert interactions.history_lengths.tolist() == [2, 2]
    assert report.make_profile().unused_columns == ["year"]
    assert row_groups_of(folder)["user_id"].to_pylist() == ["007", "007", "7", "7"]


def test_partitions_that_are_integers_are_integers(tmp_path):
    without = rows(user_id=None)
    folder = hive(tmp_path, **{"user_id=7": without, "user_id=10": without})
    assert read(folder)[0].users.ids.tolist() == [7, 10]


@pytest.mark.parametrize("value", ["", "__HIVE_DEFAULT_PARTITION__"])
def test_a_partition_without_value_is_missing(tmp_path, value):
    without = rows(user_id=None)
    folder = hive(tmp_path / "log", **{f"user_id={value}": without, "user_id=10": without})
    interactions, report = read(folder)
    assert interactions.users.ids.tolist() == [10]
    assert [finding.check for finding in report.findings] == ["missing_id"]


def test_partitions_are_decoded(tmp_path):
    without = rows(user_id=None)
    folder = hive(tmp_path, **{"user_id=a%2Fb%20c": without, "user_id=%C3%A9=1": without})
    assert read(folder)[0].users.ids.tolist() == ["a/b c", "é=1"]


def test_partitions_may_hold_ratings_and_items(tmp_path):
    folder = hive(
        tmp_path,
        **{
            "rating=4.5/item_id=x": rows(rating=None, item_id=None, user_id=[1, 2]),
            "rating=3/item_id=y": rows(rating=None, item_id=None, user_id=[1, 2]),
        },
    )
    interactions, _ = read(folder)
    assert interactions.items.ids.tolist() == ["x", "y"]
    assert sorted(interactions.rating.tolist()) == [3.0, 3.0, 4.5, 4.5]


def test_a_partition_that_is_also_a_column(tmp_path):
    folder = hive(tmp_path / "equal", **{"user_id=1": rows(), "user_id=2": rows(user_id=[2, 2])})
    assert read(folder)[0].users.ids.tolist() == [1, 2]
    folder = hive(tmp_path / "other", **{"user_id=1": rows(), "user_id=3": rows(user_id=[2, 2])})
    refused(folder, r"user_id=3/part.parquet, column 'user_id': holds 2 in a folder user_id=3")


def test_times_of_rows_are_preferred_to_dates_of_folders(tmp_path):
    folder = hive(tmp_path, **{"date=2020-07-04": rows(), "date=2020-07-05": rows(user_id=[2, 2])})
    interactions, report = read(folder)
    assert interactions.timestamp.tolist() == [100, 200, 100, 200]
    assert report.make_profile().unused_columns == ["date"]


def test_partitions_of_text_files_are_read(tmp_path):
    for user in ("007", "7", "__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / "log" / f"user_id={user}").mkdir(parents=True)
        path = tmp_path / "log" / f"user_id={user}" / "part.csv"
        path.write_text("item_id,rating\n1,4\n2,5\n")
    interactions, report = read(tmp_path / "log")
    assert interactions.users.ids.tolist() == ["007", "7"]
    assert interactions.rating.tolist() == [4.0, 5.0, 4.0, 5.0]
    assert [(f.check, f.n_rows) for f in report.findings if f.check == "missing_id"] == [
        ("missing_id", 2)
    ]
    path.write_text("user_id,item_id,rating\n008,1,4\n")
    with pytest.raises(DataError, match=r"part.csv, column 'user_id': holds '008' in a folder"):
        read_ratings(tmp_path / "log")


IDS = {
    "int32": (st.integers(-5, 40), pa.int32()),
    "int64": (st.integers(2**53, 2**53 + 9), pa.int64()),
    "uint64": (st.integers(0, 40), pa.uint64()),
    "whole": (st.integers(0, 40).map(float), pa.float64()),
    "text": (st.sampled_from(["007", "07", "7", "a", "é"]), pa.string()),
    "large": (st.sampled_from(["007", "07", "7", "a", "é"]), pa.large_string()),
    "encoded": (st.sampled_from(["x", "07", "7"]), pa.dictionary(pa.int8(), pa.string())),
}
RATINGS = {
    "float32": (st.sampled_from([0.5, 3.5, 5.0]), pa.float32()),
    "float64": (st.sampled_from([0.5, 3.5, 5.0]), pa.float64()),
    "int8": (st.integers(1, 5), pa.int8()),
    "decimal": (st.sampled_from([Decimal("0.5"), Decimal("3.5")]), pa.decimal128(4, 2)),
    "none": None,
}
MOMENTS = st.integers(0, 9).map(lambda second: NOON + dt.timedelta(seconds=second))
TIMES = {
    "int32": (st.integers(1593864000, 1593864009), pa.int32()),
    "int64": (st.integers(1593864000, 1593864009), pa.int64()),
    **{unit: (MOMENTS, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    "zone": (MOMENTS, pa.timestamp("us", "Europe/Rome")),
    "date": (MOMENTS.map(lambda moment: moment.date()), pa.date32()),
    "none": None,
}


KINDS = {"user_id": IDS, "item_id": IDS, "rating": RATINGS, "timestamp": TIMES}


@st.composite
def tables(draw):
    n = draw(st.integers(1, 12))
    columns = {}
    for name, kinds in KINDS.items():
        if (kind := kinds[draw(st.sampled_from(sorted(kinds)))]) is not None:
            values, arrow = kind
            plain = arrow.value_type if pa.types.is_dictionary(arrow) else arrow
            drawn = draw(st.lists(values, min_size=n, max_size=n))
            columns[name] = pa.array(drawn, plain).cast(arrow)
    return pa.table({name: columns[name] for name in draw(st.permutations(sorted(columns)))})


@given(table=tables(), cuts=st.lists(st.integers(0, 12), max_size=3), is_hive=st.booleans())
@settings(max_examples=80)
def test_a_table_is_the_same_in_every_form(table, cuts, is_hive, tmp_path_factory):
    """Parts, partitions, row groups, pandas, polars and Arrow give what the plain frame gives."""
    folder = tmp_path_factory.mktemp("log")
    checks = Checks(now="2030-01-01")
    expected = read(table.to_pandas(), repeats="allow", checks=checks)[0].digest
    bounds = sorted({0, *(min(cut, len(table)) for cut in cuts), len(table)})
    for number, (start, stop) in enumerate(pairwise(bounds)):
        part = table.slice(start, stop - start)
        path = folder / (f"year={2000 + number}" if is_hive else ".") / f"part-{number}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(part, path, row_group_size=3)
    sources = [folder, table, table.to_reader(max_chunksize=2), pl.from_arrow(table)]
    if not {pa.uint64(), pa.float64()} & {
        table.field(name).type for name in ("user_id", "item_id")
    }:
        sources.append(row_groups_of(folder))
    sources += [table.to_pandas(types_mapper=pd.ArrowDtype), table.to_pandas().convert_dtypes()]
    for source in sources:
        assert read(source, repeats="allow", checks=checks)[0].digest == expected
    assert read_table(table).n_rows == len(table)


@given(table=tables(), others=tables())
@settings(max_examples=40)
def test_parts_of_two_types_hold_the_values_of_both(table, others, tmp_path_factory):
    """Each id keeps its text, each rating its value, whatever the types of the parts."""
    folder = tmp_path_factory.mktemp("log")
    if set(table.column_names) != set(others.column_names):
        table = table.select(["user_id", "item_id"])
        others = others.select(["user_id", "item_id"])
    if "timestamp" in table.column_names:
        table, others = table.drop("timestamp"), others.drop("timestamp")
    pq.write_table(table, folder / "part-0.parquet")
    pq.write_table(others, folder / "part-1.parquet")
    read_columns = read_parquet(detect_layout(folder), ReadOptions()).columns
    for name in table.column_names:
        values = [*table[name].to_pylist(), *others[name].to_pylist()]
        assert [*map(plain, read_columns[name].to_pylist())] == [*map(plain, values)]


def plain(value):
    """A number or a text as text: 7, 7.0 and "7" are the same, "07" is not."""
    return value if isinstance(value, str) else str(int(value) if value % 1 == 0 else float(value))
