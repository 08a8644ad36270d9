"""Delimited text of any kind is read as it is meant, or refused with the way out."""

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import Checks, read_ratings
from recsys.data.detection import detect_layout
from recsys.data.options import ReadOptions
from recsys.data.readers import read_files
from recsys.errors import ConfigError, DataError


def raw(path, **options):
    """The values of a file as text, by column, and its table."""
    options = ReadOptions(**options)
    table = read_files(detect_layout(path, options), options)
    values = {
        name: [None if v is None else str(v) for v in column.to_pylist()]
        for name, column in table.columns.items()
    }
    return values, table


@pytest.fixture
def read(tmp_path):
    """Reads a text as the file of a given name."""

    def read(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return raw(path, **options)

    return read


def test_quoted_line_breaks_are_read(read):
    text = (
        'user_id,item_id,rating,timestamp,review\n1,10,4.5,1700000000,"good\nvery good"\n'
        '1,11,3,1700000100,"bad"\n\n2,11,3,1700000100,"say ""no"""\nx\n2,12,5,1,""\n'
    )
    values, table = read("log.csv", text)
    assert values["item_id"] == ["10", "11", "11", "12"]
    assert values["user_id"] == ["1", "1", "2", "2"]
    assert table.unused == ["review"]
    (malformed,) = table.files[0].malformed
    assert malformed == (7, "x", "has 1 columns instead of 5")
    assert table.files[0].lines_of(pd.Series([0, 1, 2, 3]).to_numpy()).tolist() == [2, 4, 6, 8]


def test_long_columns_with_line_breaks_are_read(read):
    limit = csv.field_size_limit()
    values, _ = read("log.csv", f'user_id,item_id,text\n1,2,"{"long " * 100_000}\ntext"\n3,4,\n')
    assert values == {"user_id": ["1", "3"], "item_id": ["2", "4"]}
    assert csv.field_size_limit() == limit


def test_a_log_whose_texts_all_have_line_breaks_is_read(read):
    rows = "".join(f'u{row},i{row},"fine,\nreally, fine"\n' for row in range(9))
    values, table = read("log.csv", "user_id,item_id,review\n" + rows)
    assert values["user_id"] == [f"u{row}" for row in range(9)]
    assert table.files[0].lines_of(np.array([8])).tolist() == [18]


QUOTES = {
    "not closed": ('user_id,item_id\n1,2\n3,"4\n5,6\n', "line 3: a quotation mark is not closed"),
    "followed": ('user_id,item_id\n1,2\n"3"4,4\n5,6\n', "line 3: a quotation mark is not closed"),
    "two marks": (
        'user_id,item_id,note\n1,2,"a\n2,3,b\n3,4,c"\n',
        "line 2: a quotation mark opens a text that goes on in line 3, which could be a row",
    ),
    "text ids": ('user_id,item_id,note\na,b,"x\nc,d,y"\n', "goes on in line 3"),
}


@pytest.mark.parametrize("case", QUOTES)
def test_quotation_marks_that_may_join_rows_are_refused(read, case):
    text, message = QUOTES[case]
    with pytest.raises(DataError) as caught:
        read("log.csv", text)
    assert message in str(caught.value)


def test_a_mark_within_a_column_is_text(read):
    values, _ = read("log.csv", 'user_id,item_id\nann,5" disc\nbob,"7"" disc"\n')
    assert values["item_id"] == ['5" disc', '7" disc']


def test_marks_in_tsv_join_no_users(read):
    values, _ = read("log.tsv", 'user_id\titem_id\n"ann\t1\nbob\t2\ncid"\t3\n"Al" Y\t4\n"d"\t5\n')
    assert values["user_id"] == ['"ann', "bob", 'cid"', '"Al" Y', '"d"']
    assert values["item_id"] == ["1", "2", "3", "4", "5"]


def test_marks_of_both_kinds_in_tsv_are_refused(read):
    rows = 'user_id\titem_id\n"a""b"\t1\nbob\t2\n'
    assert read("log.tsv", rows)[0]["user_id"] == ['a"b', "bob"]
    with pytest.raises(DataError, match="line 4: a quotation mark is not closed"):
        read("log.tsv", rows + '"cid\t3\n')
    assert read("log.tsv", rows + '"bob"\t3\n')[0]["user_id"] == ['a"b', "bob", "bob"]


def test_quoted_columns_of_tsv_are_read(read):
    values, _ = read("log.tsv", '"user_id"\t"item_id"\n"a\t1"\t1\n"b"\t2\n')
    assert values == {"user_id": ["a\t1", "b"], "item_id": ["1", "2"]}
    with pytest.raises(DataError, match="line 4: a quotation mark is not closed"):
        read("log.tsv", '"user_id"\t"item_id"\n"a"\t1\n"b"\t2\n"c\t3\n'.replace('"c', '"c"c'))


def test_a_header_in_any_file_is_noticed(read):
    assert read("log.txt", "user_id item_id\n1 5\n1 6\n2 5\n")[0]["user_id"] == ["1", "1", "2"]
    values, table = read("user_artists.dat", "userID\tartistID\tweight\n2\t51\t13883\n2\t52\t9\n")
    assert values == {"user_id": ["2", "2"], "item_id": ["51", "52"]}
    assert table.unused == ["weight"]
    assert table.files[0].format == "TSV, UTF-8"
    assert read("ratings.dat", "UserID::MovieID::Rating::Timestamp\n1::2::3::4\n")[0] == {
        "user_id": ["1"], "item_id": ["2"], "rating": ["3.0"], "timestamp": ["4"]
    }  # fmt: skip
    values, _ = read("log.txt", "who what\n1 5\n", columns={"user_id": "who", "item_id": "what"})
    assert values == {"user_id": ["1"], "item_id": ["5"]}


def test_names_of_equal_meaning_may_be_listed_for_a_part_with_a_header(read):
    names = ("user_id", "item_id", "rating", "timestamp")
    header = "userId,movieId,rating,timestamp\n"
    for text in (header + "1,2,3.0,4\n", "1,2,3.0,4\n"):
        assert read("log.csv", text, columns=names)[0]["item_id"] == ["2"]


REFUSED = {
    "single marks": ("log.csv", "'user_id','item_id'\n'1','2'\n", {}, ["is in single quot"]),
    "header again": ("log.csv", "user,item\nann,x\nuser,item\n", {}, ["line 3: repeats the head"]),
    "no header, only text": ("log.csv", "ann,x\nbob,y\n", {}, ["if the first line is no header"]),
    "index": (
        "log.csv",
        "user_id,item_id,rating,timestamp\n0,7,10,4.5,\n1,7,11,3.0,17\n2,8,10,5.0,18\n",
        {},
        ["line 1: rows have 5 columns, but the header has 4", "index=False"],
    ),
    "index, empty": ("log.csv", "user_id,item_id,rating\n0,7,10,\n1,7,11,\n", {}, ["index=False"]),
    "index of R": ("log.csv", '"user_id","item_id"\n"1",7,10\n"2",7,11\n', {}, ["index=False"]),
    "value after all": (
        "log.csv",
        "user_id,item_id\n" + "1,2,\n" * 30_000 + "1,2,3\n",
        {},
        ["line 1: rows have 3 columns, but the header has 2", "name every column in the header"],
    ),
    "no header": ("log.csv", "1,2,3.5,100\n1,3,3.5,100\n", {}, ['columns = ["user_id", "item_id"']),
    "no header, tsv": ("log.tsv", "u\t1\t2\t2019-01-01 10:00:00\n", {}, ["columns = ["]),
    "too few names": (
        "log.csv", "1,2,3\n", {"columns": ("user_id", "item_id")},
        ["'1,2,3'", "is not 'user_id,item_id'"],
    ),
    "header after all": (
        "log.csv", "userId,movieId\n1,2\n", {"columns": ("item_id", "user_id")},
        ["already have names: 'userId', 'movieId'"],
    ),
    "unknown header": (
        "log.txt", "kunde film\n1 5\n1 6\n", {},
        ["'kunde', 'film'", "map them with columns="],
    ),
    "unknown header, another separator": (
        "log.txt", "kunde|gekauft am\nK1|02.03.2015 20:17\n".replace("|", "|film|"), {},
        ["among 'kunde', 'film', 'gekauft am'", "map them with columns="],
    ),
    "decimal commas in pairs": (
        "log.txt", "kunde;film;sterne\n1;5;3,0\n1;6;4,0\n", {},
        ["among 'kunde', 'film', 'sterne'"],
    ),
    "lists": (
        "log.txt", "0 12 45 3\n1 6 7\n2 1 2 3 4 5\n", {},
        ["line 1: '0 12 45 3'", "is not 'user_id item_id'"],
    ),
    "clicks": (
        "clicks.dat", "1,2014-04-07T10:51:09.277Z,21,0\n", {},
        ["does not name the columns", "columns = ["],
    ),
    "netflix": ("data_1.txt", "1:\n1488844,3,2005-09-06\n", {}, ["one block per item", "awk"]),
    "comment": ("log.csv", "\n# sales\nuser_id,item_id\n1,2\n", {}, ["line 2: is a comment"]),
    "another separator": (
        "log.csv", "sep=;\nuser_id,item_id\n1,2\n", {},
        ["no column 'user_id', 'item_id' among 'user_id,item_id'"],
    ),
    "no separator": ("log.csv", "sep=\nuser_id;item_id\n1;2\n", {}, ["among 'sep='"]),
    "gzip": ("log.csv", gzip.compress(b"user_id,item_id\n1,2\n"), {}, ["is no text, but", "*.gz"]),
    "Excel": ("log.csv", b"PK\x03\x04\0", {}, ["is no text, but a zip archive or an Excel file"]),
    "HTML": ("log.csv", "<!DOCTYPE html><p>404</p>\n", {}, ["is no text, but HTML", "again"]),
    "two separators": (
        "log.txt", "a b,c\nd e,f\n", {},
        ["separated by ' ' or ','", "separator = ' '"],
    ),
    "Latin-1": (
        "log.csv", b"user_id,item_id\n1,1\n2,\xe9\n", {}, ["line 3: byte 0xe9", "cp1252 'é'"]
    ),
    "Latin-1, unread": (
        "log.csv", b"user_id,item_id\n" + b"1,1\n" * 99999 + b"2,\xe9\n", {}, ["line 100001"]
    ),
    "not UTF-16": (
        "log.csv", "user_id,item_id\n1,1\n".encode("utf-16")[:-1], {}, ["utf-16", "line 2"]
    ),
    "in one line": (
        "log.csv", "user_id,item_id\nКниги про любовь,2\n".encode() + b"\xea,2\n", {},
        ["line 3: byte 0xea", "is not utf-8 text; the text before it is: correct this line"],
    ),
    "not as declared": ("log.csv", b"user_id,item_id\n1,\xe9\n", {"encoding": "ascii"}, ["0xe9"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_unclear_files_are_refused_with_the_way_out(read, case, tmp_path):
    name, text, options, parts = REFUSED[case]
    with pytest.raises(DataError) as caught:
        read(name, text, **options)
    for part in [str(tmp_path / name), *parts]:
        assert part in str(caught.value)


def test_invalid_options_are_refused(read):
    for name, remedy in [
        ("latin0", "did you mean 'latin_1'"), ("cp12533", "did you mean 'cp1253'"),
        ("hex", "name one such as utf-8"), ("a\0", "name one such as utf-8"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=f"encoding = .*: no such encoding; {remedy}"):
            read("log.csv", "user_id,item_id\n1,2\n", encoding=name)
    with pytest.raises(ConfigError, match="cannot separate columns"):
        read("log.csv", "user_id,item_id\n1,2\n", separator="\n")


@pytest.mark.parametrize(
    "first",
    ["sep=;", "\ufeffsep=;", '"sep=;"', "SEP=; ", "\nsep=;\n", "sep=|", "sep=\t", "sep=::"],
    ids=ascii,
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=ascii)
def test_a_first_line_may_declare_the_separator(read, first, end):
    separator = first.strip('\ufeff\n" ')[4:]
    lines = [first, "user_id;item_id;note", "1;2;a,b", "3;4", "5;6;c"]
    text = end.join(line.replace(";", separator) for line in lines)
    for content in (text.encode(), text.removeprefix("\ufeff").encode("utf-16")):
        values, table = read("log.csv", content)
        assert values == {"user_id": ["1", "5"], "item_id": ["2", "6"]}
        lines = table.files[0].lines_of(np.array([0, 1])).tolist()
        n_lines = first.count("\n") + 1
        assert [n - n_lines for n in (*lines, table.files[0].malformed[0][0])] == [2, 4, 3]


def test_a_separator_may_be_declared_where_there_is_no_header(read):
    columns = ("user_id", "item_id", "note")
    for text in ("\nsep=;\n1;2;a,b\n3;4\n5;6;\n", '\nsep=;\n1;2;"a\nb"\n5;6;\n'):
        values, table = read("log.csv", text, columns=columns)
        assert values == {"user_id": ["1", "5"], "item_id": ["2", "6"]}
        assert table.files[0].lines_of(np.array([0, 1])).tolist() == [3, 5]
        assert table.files[0].format == "text separated by ';', UTF-8, without a header"
    values, _ = read("log.csv", "sep=;\nuser_id,item_id\n1;,2\n", separator=",")
    assert values["user_id"] == ["1;"]


def test_tables_of_a_folder_may_declare_the_separator(tmp_path):
    (tmp_path / "sales.csv").write_text("sep=;\nuser_id;item_id\n1;7\n2;7\n")
    (tmp_path / "books.csv").write_text("sep=;\nISBN;price\n7;12,50\n")
    (tmp_path / "items.csv").write_text("sep=;\nitem_id;title\n7;Emma, by Austen\n")
    log = read_ratings(tmp_path, on_report=lambda report: None)
    assert log.catalogue["title"].tolist() == ["Emma, by Austen"]
    assert len(log) == 2


def test_an_index_with_a_name_or_an_empty_one_is_not_used(read):
    for header in (",user_id,item_id", "Unnamed: 0,user_id,item_id", "index,user_id,item_id"):
        assert read("log.csv", f"{header}\n0,7,10\n1,8,11\n")[0]["user_id"] == ["7", "8"]


def test_rows_of_another_width_are_malformed(read):
    values, table = read("log.csv", "user_id,item_id\n1,2\n0,1,2\n3,4\n5\n6,7\n")
    assert values["user_id"] == ["1", "3", "6"]
    assert [line for line, _, _ in table.files[0].malformed] == [3, 5]


LINES = {"": None, "7": 1, "1;2": 1, "4,5,6": 3, '"4","5,6",x': 3, ",,": 3, "\0": 1, "é": 1}
"""Lines that are no rows of two columns, and how many columns these have."""


@given(
    blank=st.integers(0, 2),
    drawn=st.lists(st.sampled_from([*LINES]), min_size=1, max_size=12),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    separator=st.sampled_from([",", "::"]),
)
def test_malformed_and_blank_lines_are_numbered(
    blank, drawn, end, encoding, separator, tmp_path_factory
):
    lines = [""] * blank + ["user_id,item_id"]
    for line in drawn:
        lines += ["1,2", line, '3,"4"' if separator == "," else "3,4"]
    lines = [line.replace(",", separator) for line in lines if separator == "," or '"' not in line]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes(end.join(lines).encode(encoding))
    values, table = raw(path)
    wrong = {line.replace(",", separator): n for line, n in LINES.items()}
    numbered = [*enumerate(lines, start=1)][blank + 1 :]
    assert table.files[0].malformed == [
        (number, line, f"has {wrong[line]} columns instead of 2")
        for number, line in numbered
        if wrong.get(line)
    ]
    rows = [number for number, line in numbered if line not in wrong]
    assert values["user_id"] == ["1", "3"] * len(drawn)
    assert table.files[0].lines_of(np.arange(len(rows))).tolist() == rows


def test_lines_are_numbered_over_many_blocks(read):
    lines = ["user_id,item_id"] + ["1,2"] * 2_000_000
    wrong = {17: "1", 500_000: "2;3", 1_500_000: "1", 1_999_999: "4,5,6"}
    for number, text in wrong.items():
        lines[number - 1] = text
    _, table = read("log.csv", "\n".join(lines))
    assert {line: text for line, text, _ in table.files[0].malformed} == wrong
    positions = np.array([0, 15, 16, len(lines) - 6])
    assert table.files[0].lines_of(positions).tolist() == [2, 18, 19, len(lines)]


def test_columns_without_a_header_are_named_in_order(read):
    names = ("user_id", "item_id", "_", "behavior", "timestamp")
    values, table = read("UserBehavior.csv", "1,22,3,pv,15\n1,23,3,pv,16\n", columns=names)
    ids = {"user_id": ["1", "1"], "item_id": ["22", "23"]}
    assert values == {**ids, "timestamp": ["15", "16"], "event": ["pv", "pv"]}
    assert table.unused == []
    assert table.files[0].format == "CSV, UTF-8, without a header"
    values, _ = read("log.txt", "9;a,b\n8;c\n", columns=("user_id", "item_id"))
    assert values["item_id"] == ["a,b", "c"]


def test_a_catalogue_may_be_utf8_in_a_layout_of_latin1(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::1602620::5::1363245118\n1::7::4::1363245119\n")
    for encoding in ("utf-8", "latin-1", "utf-16"):
        (tmp_path / "movies.dat").write_bytes("1602620::Amour été::\n7::Été::\n".encode(encoding))
        log = read_ratings(tmp_path, on_report=lambda report: None)
        assert log.catalogue["title"].tolist() == ["Été", "Amour été"]


def test_a_catalogue_may_have_the_declared_encoding(tmp_path):
    (tmp_path / "ratings.csv").write_bytes(b"userId,movieId\n\xe9,10\n\xe9,11\n")
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "movies.csv").write_bytes("movieId;title\n10;Été\n11;b\n".encode(encoding))
        log = read_ratings(tmp_path, encoding="latin-1", on_report=lambda report: None)
        assert log.catalogue["title"].tolist() == ["Été", "b"]
        assert log.users.ids.tolist() == ["é"]
    (tmp_path / "ratings.csv").write_text("userId,movieId\n1,10\n1,11\n")
    with pytest.raises(DataError, match=r"movies\.csv, line 2: byte 0xc9 is not utf-8 text"):
        read_ratings(tmp_path)


def test_files_in_utf8_are_read_so_whatever_is_declared(tmp_path):
    columns = {"user_id": "Πελάτης", "item_id": "Βιβλίο"}
    for day, encoding in enumerate(["cp1253", "utf-8"]):
        text = f"Πελάτης;Βιβλίο\nΆννα;{day}\nΒίκυ;{day}\n"
        (tmp_path / f"log-{day}.csv").write_text(text, encoding=encoding)
    (tmp_path / "books.csv").write_text("ISBN;title\n0;Emma\n")  # so that headers are compared
    table = raw(tmp_path, columns=columns, encoding="cp1253")[1]
    assert table.columns["user_id"].to_pylist() == ["Άννα", "Βίκυ"] * 2
    assert [file.format.split(", ")[1] for file in table.files] == ["CP1253", "UTF-8"]


def test_few_characters_are_read_as_declared(read):
    # Any pair of these is a character in UTF-8, too.
    for n, name in [(9, "Ã©" * 9), (10, "é" * 10)]:
        values, _ = read("log.csv", f"user_id,item_id\n{'é' * n},1\n", encoding="latin-1")
        assert values["user_id"] == [name]


def test_an_item_table_without_titles_is_refused_with_its_columns(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id\n1,10\n")
    (tmp_path / "items.csv").write_text("ISBN;Titel\n10;Emma\n")
    with pytest.raises(
        DataError, match=r"items\.csv: no column 'title' among 'ISBN', 'Titel'; name"
    ):
        read_ratings(tmp_path)


def test_latin1_is_found_late_in_a_file_that_may_be(read):
    text = "".join(f"u{row}::é::5::100\n" for row in range(20_000)).encode("latin-1")
    ascii_first = b"".join(b"v%d::1::5::100\n" % row for row in range(20_000))
    values, table = read("ratings.dat", ascii_first + text)
    assert values["item_id"][-1] == "é"
    assert table.files[0].format == "text separated by '::', WINDOWS-1252, without a header"


def test_long_separators_are_replaced_across_blocks(read):
    rows = [f"{row}::u:{row}::{row}:" for row in range(1000)]
    header = ("user_id", "item_id", "note")
    values, _ = read("log.dat", "\n".join(rows), columns=header, separator="::")
    assert values["item_id"] == [f"u:{row}" for row in range(1000)]


printable = st.text(
    st.characters(codec="latin-1", exclude_categories=["C", "Zl", "Zp", "Zs"]),
    min_size=1,
    max_size=6,
)


@st.composite
def tables(draw):
    ids = st.one_of(st.integers(0, 999).map(str), printable.filter(lambda text: '"' not in text))
    n = draw(st.integers(3, 12))
    columns = {"user_id": draw(st.lists(ids, min_size=n, max_size=n))}
    columns["item_id"] = draw(st.lists(ids, min_size=n, max_size=n))
    numbers = st.integers(0, 50).map(lambda number: str(number / 10))
    columns["rating"] = draw(st.lists(numbers, min_size=n, max_size=n))
    columns["note"] = [f"remark {row}" for row in range(n)]
    return pd.DataFrame(columns)


@given(
    table=tables(),
    separator=st.sampled_from([",", ";", "\t", "|", "::"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    header=st.sampled_from(["own", "typed", "none"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    suffix=st.sampled_from([".csv", ".tsv", ".txt", ".dat"]),
)
@settings(max_examples=100)
def test_a_table_comes_back_as_it_was_written(
    table, separator, encoding, header, quoting, end, suffix, tmp_path_factory
):
    if len(separator) > 1:  # is never quoted
        table = table[~table.apply(lambda row: row.str.contains("[:]").any(), axis=1)]
        lines = [separator.join(row) for row in [list(table), *table.to_numpy().tolist()]]
        text = end.join(lines) + end
    else:
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=separator, quoting=quoting, lineterminator=end)
        writer.writerow(table)
        writer.writerows(table.to_numpy().tolist())
        text = buffer.getvalue()
    options = {"encoding": "latin-1"} if encoding == "latin-1" else {}
    first, rest = text.split(end, 1)
    if header == "typed":
        text = first.replace("_id", "_id:token").replace("rating", "rating:float") + end + rest
    elif header == "none":
        text = rest
        options |= {"columns": tuple(table), "separator": separator}
    if not len(table):
        return
    path = tmp_path_factory.mktemp("log") / f"log{suffix}"
    path.write_bytes(text.encode(encoding))
    values, read = raw(path, **options)
    assert read.n_rows == len(table)
    for name in ("user_id", "item_id"):
        assert values[name] == table[name].tolist()
    assert values["rating"] == [str(float(np.float32(text))) for text in table["rating"]]
    assert not read.files[0].malformed


@given(data=st.data(), separator=st.sampled_from(",;\t"))
@settings(max_examples=80)
def test_noise_in_a_line_changes_no_other(data, separator, tmp_path_factory):
    rows = [[str(row), str(row + 100), "4.5", str(10**9 + row)] for row in range(12)]
    lines = [separator.join(row) for row in [["user_id", "item_id", "rating", "timestamp"], *rows]]
    at = data.draw(st.integers(1, 12))
    position = data.draw(st.integers(0, len(lines[at])))
    noise = data.draw(st.text('",;\t| x5é', min_size=1, max_size=3))
    lines[at] = lines[at][:position] + noise + lines[at][position:]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    reports = []
    try:
        log = read_ratings(path, checks=Checks(now=2**31), on_report=reports.append)
    except DataError as error:
        named = f"line {at + 1}" in str(error)
    else:
        named = set(reports[0].quarantined.get("line", [])) <= {at + 1}
    assert named
    if not reports:
        return
    users = {str(user): row for row, user in enumerate(log.users.ids.tolist())}
    for number, row in enumerate(rows, start=1):
        if number != at:
            assert list(map(str, log.items.ids[log.history(users[row[0]])])) == [row[1]]
