"""Tables in memory: each type of column, and each library's tables."""

import datetime as dt
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from recsys.data import read_ratings
from recsys.data.arrow import read_table
from recsys.errors import DataError

UUIDS = [uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=1)]
UTC = dt.UTC
NOON = dt.datetime(2020, 7, 4, 12, tzinfo=UTC)  # 1593864000


def read(source, **options):
    """The interactions and the report."""
    reports = []
    return read_ratings(source, on_report=reports.append, **options), reports[0]


def table_of(**columns):
    """Three rows of two users; the last is of the first user."""
    rows = {"user_id": [1, 2, 1], "item_id": [10, 10, 20], "rating": [4.0, 3.0, 5.0]}
    return pa.table(rows | {"timestamp": [100, 200, 300]} | columns)


def ids_of(*values, kind=None):
    """User ids when a column of one type is read."""
    interactions, _ = read(table_of(user_id=pa.array([*values, values[0]], kind)))
    return interactions.users.ids.tolist()


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.int8(), [2, -1], [-1, 2]),
        (pa.uint32(), [2**32 - 1, 1], [1, 2**32 - 1]),
        (pa.int64(), [2**63 - 1, 2**53 + 1], [2**53 + 1, 2**63 - 1]),
        (pa.uint64(), [2, 1], [1, 2]),
        (pa.uint64(), [2**64 - 1, 9], ["18446744073709551615", "9"]),
        (pa.float64(), [10.0, 2.0], [2, 10]),
        (pa.decimal128(38, 0), [Decimal(10), Decimal(2)], [2, 10]),
        (pa.decimal128(4, 2), [Decimal("10.00"), Decimal("2.00")], [2, 10]),
        (pa.decimal256(60, 0), [Decimal(10**30), Decimal(2)], [str(10**30), "2"]),
        (pa.decimal32(4, 0), [Decimal(10), Decimal(2)], [2, 10]),
        (pa.decimal64(4, 2), [Decimal("10.00"), Decimal("2.00")], [2, 10]),
        (pa.string(), ["007", "7"], ["007", "7"]),
        (pa.large_string(), ["007", "7"], ["007", "7"]),
        (pa.string_view(), ["007", "7"], ["007", "7"]),
        (pa.dictionary(pa.uint8(), pa.string()), ["b", "a"], ["a", "b"]),
        (pa.dictionary(pa.int64(), pa.large_string()), ["b", "a"], ["a", "b"]),
        (pa.dictionary(pa.int8(), pa.int32()), [20, 10], [10, 20]),
        (pa.dictionary(pa.int8(), pa.float64()), [20.0, 10.0], [10, 20]),
    ],
    ids=str,
)
def test_ids_of_each_type(kind, values, expected):
    assert ids_of(*values, kind=kind) == expected


def test_encoded_ids_are_the_same_whatever_their_dictionary():
    twice = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["a", "b", "a"]))
    null = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a", None]))
    assert read(table_of(user_id=twice))[0].users.ids.tolist() == ["a", "b"]
    interactions, report = read(table_of(user_id=null))
    assert interactions.users.ids.tolist() == ["a"]
    assert [finding.check for finding in report.findings] == ["missing_id"]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.int8(), [4, 3, 5]),
        (pa.uint64(), [4, 3, 5]),
        (pa.float16(), [4.0, 3.0, 5.0]),
        (pa.float32(), [4.0, 3.0, 5.0]),
        (pa.decimal128(3, 1), [Decimal(4), Decimal(3), Decimal(5)]),
        (pa.string(), ["4", "3.0", "5e0"]),
        (pa.string_view(), ["4", "3.0", "5e0"]),
        (pa.dictionary(pa.int8(), pa.string()), ["4", "3.0", "5e0"]),
        (pa.dictionary(pa.int8(), pa.float64()), [4.0, 3.0, 5.0]),
    ],
    ids=str,
)
def test_ratings_of_each_type(kind, values):
    interactions, report = read(table_of(rating=pa.array(values, kind)))
    assert report.make_profile().ratings["highest"] == 5.0
    assert interactions.rating.tolist() == [4.0, 5.0, 3.0]


def test_ratings_may_be_true_or_false():
    assert read(table_of(rating=[True, False, True]))[0].rating.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.int32(), [1593864000, 1593864001, 1593864002]),
        (pa.uint64(), [1593864000, 1593864001, 1593864002]),
        (pa.float64(), [1593864000.0, 1593864001.0, 1593864002.0]),
        (pa.decimal128(38, 0), [Decimal(1593864000 + i) for i in range(3)]),
        (pa.dictionary(pa.int8(), pa.int64()), [1593864000, 1593864001, 1593864002]),
        *(
            (pa.timestamp(unit, zone), [NOON + dt.timedelta(seconds=i) for i in range(3)])
            for unit in ("s", "ms", "us", "ns")
            for zone in (None, "UTC", "Europe/Rome", "+05:30")
        ),
        (pa.string(), [f"2020-07-04T12:00:0{i}Z" for i in range(3)]),
        (pa.string_view(), [f"2020-07-04T14:00:0{i}+02:00" for i in range(3)]),
    ],
    ids=str,
)
def test_times_of_each_type(kind, values):
    interactions, _ = read(table_of(timestamp=pa.array(values, kind)))
    assert interactions.timestamp.tolist() == [1593864000, 1593864002, 1593864001]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()], ids=str)
def test_dates_are_times_at_midnight(kind):
    days = [dt.date(2020, 7, 4), dt.date(2020, 7, 5), dt.date(2020, 7, 6)]
    interactions, _ = read(table_of(timestamp=pa.array(days, kind)))
    assert interactions.timestamp.tolist() == [1593820800, 1593993600, 1593907200]


@pytest.mark.parametrize("column", ["user_id", "item_id", "rating", "timestamp"])
@pytest.mark.parametrize(
    "values",
    [
        [[1], [2], [3]],
        [{"a": 1}, {"a": 2}, {"a": 3}],
        [b"a", b"b", b"c"],
        [dt.time(1), dt.time(2), dt.time(3)],
        [dt.timedelta(1), dt.timedelta(2), dt.timedelta(3)],
        pa.array([b"a", b"b", b"c"], pa.binary_view()),
        pa.array([b"a", b"b", b"c"], pa.binary(1)),
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int8(), [1]), pa.array([[1], [2], [3]], pa.list_(pa.int8(), 1))
        ),
        pa.RunEndEncodedArray.from_arrays([2, 3], pa.array(["a", "b"])),
    ],
    ids=["list", "struct", "binary", "time", "duration", "view", "fixed", "tensor", "run"],
)
def test_other_types_are_refused_by_name(column, values):
    message = rf"the table, column '{column}': is of type .*convert it"
    with pytest.raises(DataError, match=message):
        read(table_of(**{column: values}))


def test_types_are_refused_only_where_they_make_no_sense():
    with pytest.raises(DataError, match=r"'user_id': is of type timestamp\[us, tz=UTC\], but ids"):
        read(table_of(user_id=[NOON] * 3))
    with pytest.raises(DataError, match=r"'rating': is of type date32\[day\], but ratings are"):
        read(table_of(rating=[NOON.date()] * 3))
    for column in ("user_id", "timestamp"):
        with pytest.raises(DataError, match=f"'{column}': is of type bool"):
            read(table_of(**{column: [True] * 3}))
    assert len(read(table_of(other=[[1], [2], [3]]))[0]) == 3


def test_digits_lost_in_floats_are_noticed():
    ids = [2.0**53, 1.0, 2.0]
    with pytest.raises(DataError, match=r"'user_id': 9007199254740992 is stored as double"):
        read(table_of(user_id=ids))


@pytest.mark.parametrize("column", ["user_id", "timestamp"])
@pytest.mark.parametrize("kind", [pa.float16(), pa.float32()], ids=str)
def test_small_floats_are_refused_as_ids_and_times(column, kind):
    with pytest.raises(DataError, match=f"'{column}': is of type (half)?float, but"):
        read(table_of(**{column: pa.array([1.0, 2.0, 3.0], kind)}))


def test_uuids_are_refused_until_they_are_text():
    with pytest.raises(DataError, match=r"'user_id': is of type extension<arrow\.uuid>, but ids"):
        read(table_of().to_pandas().assign(user_id=UUIDS))
    frame = table_of().to_pandas().assign(user_id=[str(value) for value in UUIDS])
    assert read(frame)[0].users.ids.tolist() == [*map(str, UUIDS[:2])]


def test_a_column_of_nothing_is_missing():
    nothing = pa.nulls(3)
    with pytest.raises(DataError, match=r"100% .*user_id': \(empty\) is not an id"):
        read(table_of(user_id=nothing))
    with pytest.raises(DataError, match=r"100% .*'timestamp': \(empty\)"):
        read(table_of(timestamp=nothing))


def test_nan_is_a_missing_id():
    interactions, report = read(table_of(user_id=[1.0, float("nan"), 1.0]))
    assert interactions.users.ids.tolist() == [1]
    assert "row 1, column 'user_id': (empty)" in str(report)


LIBRARIES = {
    "pandas": lambda table: table.to_pandas(),
    "pandas with Arrow": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas nullable": lambda table: table.to_pandas().convert_dtypes(),
    "polars": pl.from_arrow,
    "table": lambda table: table,
    "record batch": lambda table: table.combine_chunks().to_batches()[0],
    "reader": lambda table: table.to_reader(max_chunksize=2),
    "structs": lambda table: pa.chunked_array([table.to_struct_array().combine_chunks()]),
    "stream": lambda table: Stream(table),  # noqa: PLW0108 (defined below)
    "array": lambda table: Array(table.combine_chunks().to_batches()[0]),
}


class Stream:
    """What a library gives that has its own tables, such as DuckDB."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


class Array:
    def __init__(self, batch):
        self.batch = batch

    def __arrow_c_array__(self, requested_schema=None):
        return self.batch.__arrow_c_array__(requested_schema)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("ids", [[1, 2, 1], ["007", "7", "007"]], ids=["integers", "text"])
def test_tables_of_each_library_are_the_same(library, ids):
    table = table_of(user_id=ids, rating=[4.0, None, 5.0], genre=["a", "b", "c"])
    table = table.select(["genre", "timestamp", "item_id", "user_id", "rating"])
    source = LIBRARIES[library](table)
    interactions, report = read(source)
    assert interactions.digest == read(table.to_pandas())[0].digest
    assert interactions.users.ids.tolist() == ids[:1]
    assert "the table, row 1, column 'rating': (empty)" in str(report)


def test_the_report_names_the_format_and_what_is_not_used():
    for library, form in [("pandas", "pandas table"), ("polars", "Arrow table")]:
        profile = read(LIBRARIES[library](table_of(genre=["a", "b", "c"])))[1].make_profile()
        assert [file["format"] for file in profile.files] == [form]
        assert profile.unused_columns == ["genre"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([1, 2], "the source is of type list: pass a path, a pandas DataFrame or a table"),
        ({"user_id": [1]}, "the source is of type dict: pass a path"),
        (None, "the source is of type NoneType: pass a path"),
        (b"log.csv", "the source is of type bytes: pass a path"),
        (pl.LazyFrame({"user_id": [1]}), "LazyFrame: .*call collect"),
        (pl.Series([1]), "the table, of type Series, cannot be read as Arrow"),
        (pd.Series([1]), "the table, of type Series, cannot be read as Arrow"),
        (pa.chunked_array([[1]]), "the table, of type ChunkedArray, cannot be read as Arrow"),
        (type("Frame", (), {"__dataframe__": None})(), "Frame: pass a path, a pandas DataFrame"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_table_is_refused(source, message):
    with pytest.raises(DataError, match=message):
        read_ratings(source)


def test_a_reader_is_read_once():
    reader = table_of().to_reader()
    read(reader)
    with pytest.raises(DataError, match="there are no rows in it"):
        read(reader)


def test_indices_and_levels_of_pandas_are_noticed():
    frame = table_of().to_pandas()
    for index in ("user_id", "timestamp", ["user_id", "item_id"]):
        with pytest.raises(DataError, match=r"is its index, not a column; call reset_index\(\)"):
            read(frame.set_index(index))
    assert read(frame.set_index("user_id", drop=False))[0].n_users == 2
    assert read(frame.rename_axis("row"))[0].n_users == 2
    frame.columns = pd.MultiIndex.from_product([["log"], frame.columns])
    with pytest.raises(DataError, match=r"its columns have 2 levels, as in \('log', 'user_id'\)"):
        read(frame)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1.0, 1], [1]),
        ([Decimal("7"), 7, 8], [7, 8]),
    ],
    ids=str,
)
def test_objects_of_one_type(values, expected):
    frame = table_of().to_pandas().assign(user_id=pd.Series(values, dtype=object))
    assert read(frame)[0].users.ids.tolist() == expected


@pytest.mark.parametrize(
    "values",
    [[1, "a", 1], [True, 1, True], [1, "1.0", 1.0], [2**64, 7, 7], [UUIDS[0], "a", "a"]],
    ids=str,
)
def test_objects_of_several_types_are_refused(values):
    frame = table_of().to_pandas().assign(user_id=pd.Series(values, dtype=object))
    message = "column 'user_id': is of type object and cannot be read as Arrow: .*; convert it to"
    with pytest.raises(DataError, match=message):
        read(frame)


def test_text_in_another_encoding_is_refused():
    latin = pa.array([b"caf\xe9", b"b", b"b"]).view(pa.string())
    for ids in (latin, latin.dictionary_encode()):
        with pytest.raises(DataError, match=r"column 'user_id': .* cannot be read .*UTF8"):
            read(table_of(user_id=ids))


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, b"a", (1,), np.arange(2)], ids=str)
def test_objects_that_are_no_ids_are_refused(value):
    frame = table_of().to_pandas()
    frame["user_id"] = pd.Series([1, value, "a"], dtype=object)
    with pytest.raises(DataError, match="column 'user_id'"):
        read(frame)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.array([1, 2, 1], "Int64"), [1, 2]),
        (pd.Categorical([2, 1, 2]), [1, 2]),
        (pd.Categorical(["b", "a", "b"]), ["a", "b"]),
        (pd.array(["a", "b", "a"], "string[python]"), ["a", "b"]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_extension_types_of_pandas(values, expected):
    assert read(table_of().to_pandas().assign(user_id=values))[0].users.ids.tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        pd.period_range("2020-07-04", periods=3, freq="D"),
        pd.interval_range(0, 3),
        pd.Series([1 + 2j, 2 + 0j, 3]),
        pd.arrays.SparseArray([0, 1, 0]),
        pd.to_timedelta([1, 2, 3], "s"),
    ],
    ids=["period", "interval", "complex", "sparse", "timedelta"],
)
@pytest.mark.parametrize("column", ["user_id", "timestamp"])
def test_other_types_of_pandas_are_refused(column, values):
    frame = table_of().to_pandas().assign(**{column: values})
    with pytest.raises(DataError, match=f"the table, column '{column}': is of type .*convert it"):
        read(frame)


def test_times_as_objects_keep_their_resolution():
    fine = pd.Timestamp("2020-07-04T12:00:00.000000002")
    objects = [fine, fine - pd.Timedelta(1, "ns"), fine]
    frame = table_of().to_pandas().assign(user_id=1, timestamp=pd.Series(objects, dtype=object))
    times = read_table(frame).columns["timestamp"].cast(pa.int64()).to_pylist()
    assert times == [time.value for time in objects]
    days = [dt.date(2020, 7, 4), dt.date(2020, 7, 5), None]
    frame["timestamp"] = pd.Series(days, dtype=object)
    assert read(frame, repeats="allow")[0].timestamp.tolist() == [1593820800, 1593907200]
    mixed = [NOON.replace(tzinfo=None), dt.date(2020, 7, 5), None]
    for objects in (mixed, mixed[::-1]):
        frame["timestamp"] = pd.Series(objects, dtype=object)
        assert read(frame, repeats="allow")[0].timestamp.tolist() == [1593864000, 1593907200]
    frame["timestamp"] = pd.Series([days[0], 5, None], dtype=object)
    with pytest.raises(DataError, match=r"column 'timestamp': .* 5 is not a date, as others are"):
        read(frame)


def test_the_source_is_never_modified():
    frame = table_of(user_id=["b", "a", "b"], rating=pa.array([4, 3, 5], pa.float32())).to_pandas()
    table, copy = pa.Table.from_pandas(frame), frame.copy(deep=True)
    read(frame)
    read(table)
    pd.testing.assert_frame_equal(frame, copy)
    pd.testing.assert_frame_equal(table.to_pandas(), copy)
