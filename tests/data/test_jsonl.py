"""JSON Lines are read with the types that they have."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import read_ratings
from recsys.data.detection import detect_layout
from recsys.data.options import ReadOptions
from recsys.data.readers import read_files
from recsys.errors import DataError

YELP = [
    {"review_id": "a", "user_id": "u1", "business_id": "007", "stars": 5.0, "date": "2020-01-01"},
    {"review_id": "b", "user_id": "u1", "business_id": "7", "stars": 3, "date": "2020-01-02"},
]


@pytest.fixture
def read(tmp_path):
    """Reads records, or text, as a file of a given name: values by column, and the table."""

    def read(records, name="log.jsonl", **options):
        if not isinstance(records, bytes):
            records = "".join(json.dumps(record) + "\n" for record in records).encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(records) if name.endswith(".gz") else records)
        options = ReadOptions(**options)
        table = read_files(detect_layout(path, options), options)
        return {name: column.to_pylist() for name, column in table.columns.items()}, table

    return read


@pytest.mark.parametrize("name", ["log.jsonl", "log.ndjson", "review.json", "review.json.gz"])
def test_records_are_read_from_any_kind_of_file(read, name):
    values, table = read(YELP, name)
    assert values["user_id"] == ["u1", "u1"]
    assert values["item_id"] == ["007", "7"]
    assert values["rating"] == [5.0, 3.0]
    assert values["timestamp"] == ["2020-01-01", "2020-01-02"]  # not guessed to be a time
    assert (table.has_types, list(table.unused)) == (True, ["review_id"])
    assert table.files[0].format == "JSON Lines"


def test_a_log_is_read_completely(tmp_path):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in YELP))
    log = read_ratings(tmp_path, on_report=lambda report: None)
    assert log.items.ids.tolist() == ["007", "7"]
    assert log.timestamp.tolist() == [1577836800, 1577923200]


@pytest.mark.parametrize("ids", [[2**63 - 1, 2**53 + 1], ["007", "7"], ["7", None]])
def test_ids_keep_all_digits(read, ids):
    values, _ = read([{"user_id": user, "item_id": 1} for user in ids])
    assert [None if v is None else str(v) for v in values["user_id"]] == [
        None if v is None else str(v) for v in ids
    ]


def test_fields_may_be_missing_and_nested(read):
    records = [{"user_id": "a", "item_id": 1, "style": {"Color:": "red"}, "helpful": [1, 2]}]
    records += [{"user_id": "b", "item_id": 2}] * 5000 + [
        {"user_id": "c", "item_id": 3, "rating": 4}
    ]
    values, table = read(records)
    assert values["rating"] == [None] * 5001 + [4]
    assert list(table.unused) == ["style", "helpful"]
    values, table = read([*records, {"user_id": "d"}, {"item_id": 5, "rating": 5}])
    assert values["user_id"][-2:] == ["d", None]
    assert values["item_id"][-2:] == [None, 5]
    assert values["rating"][-3:] == [4, None, 5]


def test_blank_lines_count_for_line_numbers(read):
    _, table = read(b'\n{"user_id": 1, "item_id": 2}\n\n{"user_id": 3, "item_id": 4}\n')
    assert table.files[0].lines_of(np.array([0, 1])).tolist() == [2, 4]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings(read, encoding):
    values, _ = read('{"user_id": "é", "item_id": 2}\n'.encode(encoding))
    assert values == {"user_id": ["é"], "item_id": [2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'[{"user_id": 1, "item_id": 2}]\n', "write one object per line, with `jq"),
        (b'[\n{"user_id": 1, "item_id": 2}\n]\n', "with `jq -c '.[]'`"),
        (b'{\n"user_id": 1,\n"item_id": 2}\n', "line 1: '{' is not a JSON object; write one obj"),
        (b"", "is empty"),
        (
            b'{"user_id": {"$oid": "5f"}, "item_id": 2}\n',
            "column 'user_id': is of type struct<$oid: string>, but ids are integers or text",
        ),
        (b'{"user_id": 1, "item": [2, 3]}\n', "column 'item': is of type list<item: int64>, but"),
        (
            b'{"user_id": 1, "item": 2}\n{"user_id": 1, "item": [2, 3]}\n',
            "line 2, field 'item': [2, 3] is of another type than in line 1; write all values of",
        ),
        (
            b'{"user": null, "item": 2}\n\n{"user": 7, "item": 2}\n{"user": "7", "item": 2}\n',
            "line 4, field 'user': '7' is of another type than in line 3",
        ),
        (
            b'{"user": 1, "item": 18446744073709551617}\n',
            "column 'item': 18446744073709551616 is stored as double, which loses digits",
        ),
        (
            b'{"user": 1, "item": 2}\n\n{"user": 1,\n7\n',
            """line 3: '{"user": 1,' is not a JSON object; write one object per line""",
        ),
        (b'{"user": 1, "item": 2} {"user": 1, "item": 3}\n', "line 1: "),
        (b'{"user": 1,\n"item": 2}\n', "line 1: "),
        (b'{"user": 1, "film": 3}\n', "no column 'item_id' among 'user', 'film'"),
        (b'{"user": 1, "item": "\xe9"}\n', "line 1: byte 0xe9 is not utf-8 text"),
    ],
)
def test_unclear_files_are_refused(read, text, message):
    with pytest.raises(DataError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "log.jsonl" in str(caught.value)


integers = st.integers(-(2**63), 2**63 - 1)
text = st.text(st.characters(codec="utf-8"), min_size=1) | st.just("2020-01-01")


@given(
    ids=st.sampled_from([integers, text]).flatmap(
        lambda values: st.lists(st.tuples(values, values), min_size=1, max_size=10)
    ),
    ratings=st.lists(st.one_of(st.none(), st.integers(0, 9), st.floats(0, 9)), min_size=10),
)
def test_records_come_back_as_they_were_written(ids, ratings, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    records = [
        {"rating": rating, "user_id": user, "item_id": item}
        for (user, item), rating in zip(ids, ratings, strict=False)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    columns = read_files(detect_layout(path), ReadOptions()).columns
    assert [str(user) for user in columns["user_id"].to_pylist()] == [str(user) for user, _ in ids]
    assert [str(item) for item in columns["item_id"].to_pylist()] == [str(item) for _, item in ids]
    assert columns["rating"].to_pylist() == [record["rating"] for record in records]
