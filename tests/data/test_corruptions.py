"""Any ratings are read unchanged, and any damage is reported; no rows are lost or invented.

Each property is checked against a reader that is slow and simple.
"""

import csv
import gzip
import io
import re
import zipfile

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import Checks, read_ratings
from recsys.data.ids import parse_integers
from recsys.errors import DataError

NOW = 2_000_000_000
HEADER = "userId,movieId,rating,timestamp"

integers = st.integers(-(2**63), 2**63 - 1)
words = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=6
).filter(str.strip)
ratings = st.floats(-1e6, 1e6, width=32)
times = st.integers(1_500_000_000, 1_800_000_000)


@st.composite
def frames(draw):
    """Frames that pass every check: no user has an item twice."""
    ids = draw(st.sampled_from([st.integers(0, 5), integers, words]))
    pairs = draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=30, unique=True))
    n = len(pairs)
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    if draw(st.booleans()):
        frame["rating"] = draw(st.lists(ratings, min_size=n, max_size=n))
    if draw(st.booleans()):
        frame["timestamp"] = draw(st.lists(times, min_size=n, max_size=n))
    return frame


def sorted_by_user_time(frame):
    keys = ["user_id"] + (["timestamp"] if "timestamp" in frame else [])
    return frame.sort_values(keys, kind="stable").reset_index(drop=True)


def as_frame(log):
    columns = {
        "user_id": log.users.ids[log.user_index],
        "item_id": log.items.ids[log.item_index],
        "rating": log.rating,
        "timestamp": log.timestamp,
    }
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def read(source, repeats="exclude", **policies):
    reports = []
    checks = Checks(now=NOW, **policies)
    log = read_ratings(source, repeats=repeats, checks=checks, on_report=reports.append)
    return log, reports[0]


@given(frame=frames())
def test_valid_rows_are_read_unchanged(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    frame.to_parquet(path)
    expected = sorted_by_user_time(frame)
    for source in (frame, path):
        log, report = read(source)
        assert report.n_rows == report.n_used == len(frame)
        pd.testing.assert_frame_equal(as_frame(log), expected, check_dtype=False)
        assert sorted(log.users.ids.tolist()) == log.users.ids.tolist()
        again, _ = read(as_frame(log))
        assert again.digest == log.digest


@given(ids=st.lists(st.text("0123789+-.xXeE_ \t\xa0\u2003", min_size=1, max_size=4), min_size=1))
@settings(max_examples=300)
def test_ids_of_text_files_are_read_unchanged(ids, tmp_path_factory):
    ids = [text for text in ids if text.strip() and text.isprintable()]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("user_id,item_id\n" + "".join(f"{text},{text}\n" for text in [*ids, "7"]))
    log, _ = read(path, repeats="allow", id_type="keep")
    integers = parse_integers(pa.array([*ids, "7"])).to_pylist()  # of "7.0", too
    assert set(log.users.ids.tolist()) == ({*ids, "7"} if None in integers else set(integers))
    assert (log.users.ids == log.items.ids).all()


# Ways to damage one row, given as its four fields. None may be read as another valid row.
ROW_DAMAGE = {
    "no user": lambda row: ["", *row[1:]],
    "blank user": lambda row: ["   ", *row[1:]],
    "no item": lambda row: [row[0], "", *row[2:]],
    "word for a user": lambda row: ["u" + row[0], *row[1:]],
    "fraction for an item": lambda row: [row[0], row[1] + ".5", *row[2:]],
    "plus before the item": lambda row: [row[0], "+" + row[1], *row[2:]],
    "blank after the item": lambda row: [row[0], row[1] + " ", *row[2:]],
    "item too large": lambda row: [row[0], "9" * 30, *row[2:]],
    "NUL in the user": lambda row: [row[0] + "\0", *row[1:]],
    "no rating": lambda row: [*row[:2], "", row[3]],
    "word for a rating": lambda row: [*row[:2], "good", row[3]],
    "decimal comma": lambda row: [*row[:2], "4,5", row[3]],
    "infinite rating": lambda row: [*row[:2], "inf", row[3]],
    "NaN": lambda row: [*row[:2], "NaN", row[3]],
    "rating off the scale": lambda row: [*row[:2], "50", row[3]],
    "negative rating": lambda row: [*row[:2], "-1", row[3]],
    "no time": lambda row: [*row[:3], ""],
    "word for a time": lambda row: [*row[:3], "yesterday"],
    "day or month first": lambda row: [*row[:3], "01.02.2001"],
    "two points in a time": lambda row: [*row[:3], row[3] + ".5.5"],
    "time before 1970": lambda row: [*row[:3], "-" + row[3]],
    "time in the future": lambda row: [*row[:3], str(NOW + 1)],
    "time in hundredths": lambda row: [*row[:3], row[3] + "00"],
    "time is zero": lambda row: [*row[:3], "0"],
    "time of 30 digits": lambda row: [*row[:3], "9" * 30],
    "a column less": lambda row: row[:3],
    "a column more": lambda row: [*row, "7"],
    "another separator": lambda row: [";".join(row)],
    "header again": lambda row: HEADER.split(","),
    "zeros of a full disk": lambda row: ["\0" * 20],
}

good_rows = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.integers(1, 99),
        st.sampled_from([0.5, 3.0, 4.5, 5.0]),
        times,
    ),
    min_size=20,  # two other ids among so many do not make all ids text
    max_size=30,
    unique_by=lambda row: row[:2],
)


def text_of(rows):
    return "\n".join([HEADER, *(",".join(map(str, row)) for row in rows)]) + "\n"


@pytest.mark.parametrize("damage", ROW_DAMAGE.values(), ids=ROW_DAMAGE)
@given(rows=good_rows, data=st.data())
@settings(max_examples=5)
def test_a_damaged_row_is_quarantined_and_the_others_are_read_unchanged(
    damage, rows, data, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("log")
    at = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1, max_size=2))
    damaged = [
        damage(list(map(str, row))) if position in at else row for position, row in enumerate(rows)
    ]
    path = folder / "ratings.csv"
    path.write_text(text_of(damaged))
    log, report = read(path)
    good = [row for position, row in enumerate(rows) if position not in at]
    expected = pd.DataFrame(good, columns=["user_id", "item_id", "rating", "timestamp"])
    pd.testing.assert_frame_equal(as_frame(log), sorted_by_user_time(expected), check_dtype=False)
    assert (report.n_rows, report.n_used) == (len(rows), len(good))
    assert report.quarantined["line"].tolist() == [position + 2 for position in sorted(at)]
    assert len(pd.read_parquet(report.quarantine_path)) == len(at)
    (check,) = report.quarantined["check"].unique()
    with pytest.raises(DataError, match=re.escape(f"{path}, line {min(at) + 2}")):
        read(path, **{check: "error"})


def cut(content, data):
    return content[: data.draw(st.integers(1, len(content) - 1))]


# Ways to damage a whole file. Each is refused; none may be read as fewer rows.
FILE_DAMAGE = {
    "gzip cut off": lambda text, data: ("log.csv.gz", cut(gzip.compress(text, mtime=0), data)),
    "gzip with other bytes": lambda text, data: (
        "log.csv.gz", _flip(gzip.compress(text, mtime=0), 15)
    ),
    "no gzip": lambda text, data: ("log.csv.gz", text),
    "zip cut off": lambda text, data: ("log.zip", cut(zipped(text), data)),
    "zip with other bytes": lambda text, data: ("log.zip", _flip(zipped(text), 45)),
    "UTF-16 cut off": lambda text, data: ("log.csv", text.decode().encode("utf-16")[:-1]),
    "Latin-1": lambda text, data: ("log.csv", text + "1,é,3,4\n".encode("latin-1")),
    "empty": lambda text, data: ("log.csv", b""),
    "only a header": lambda text, data: ("log.csv", HEADER.encode() + b"\n"),
    "only line ends": lambda text, data: ("log.csv", b"\n\r\n\n"),
    "no header": lambda text, data: ("log.csv", text.split(b"\n", 1)[1]),
    "missing column": lambda text, data: ("log.csv", text.replace(b"movieId", b"film")),
    "a column twice": lambda text, data: ("log.csv", text.replace(b"movieId", b"userId")),
    "open quotes": lambda text, data: ("log.csv", text.replace(b"\n", b'\n"', 3)[:-1] + b"\n"),
    "no Parquet": lambda text, data: ("log.parquet", text),
    "Parquet cut off": lambda text, data: ("log.parquet", cut(parquet(text), data)),
}  # fmt: skip


def _flip(content, position):
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


def zipped(text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", text)
    return buffer.getvalue()


def parquet(text):
    buffer = io.BytesIO()
    pd.read_csv(io.BytesIO(text)).to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("damage", FILE_DAMAGE.values(), ids=FILE_DAMAGE)
@given(rows=good_rows, data=st.data())
@settings(max_examples=6)
def test_a_damaged_file_is_refused(damage, rows, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    name, content = damage(text_of(rows).encode(), data)
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(folder / name))):
        read(folder / name)
    assert [path.name for path in folder.iterdir()] == [name]


@given(rows=good_rows, noise=st.data())
@settings(max_examples=100)
def test_inserted_characters_do_not_change_other_rows(rows, noise, tmp_path_factory):
    """After characters are inserted anywhere, all other lines are read unchanged."""
    text = text_of(rows)
    position = noise.draw(st.integers(len(HEADER) + 1, len(text) - 1))
    letters = noise.draw(st.text(st.sampled_from('0123456789,.-+ "\n\r\t;xé'), max_size=4))
    path = tmp_path_factory.mktemp("log") / "ratings.csv"
    path.write_text(text[:position] + letters + text[position:], newline="")
    try:
        log, report = read(path, repeats="allow", single_event="keep")
    except DataError:  # the message is tested above
        return
    untouched = set(map(tuple, csv.reader(text.splitlines()[1:])))
    content = path.read_text().splitlines()
    intact = {tuple(fields) for fields in csv.reader(content[1:]) if fields} & untouched
    found = {tuple(map(str, row)) for row in as_frame(log).itertuples(index=False)}
    assert intact <= found
    assert report.n_rows == sum(bool(line.strip("\r\n")) for line in content[1:])
    assert report.n_rows == report.n_used + len(report.quarantined)
