"""Which files of a folder or archive are read, in which order, and which are refused."""

import bz2
import gzip
import json
import lzma
import os
import re
import warnings
import zipfile

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import read_ratings
from recsys.data.detection import detect_layout
from recsys.data.files import natural_order
from recsys.data.options import ReadOptions
from recsys.errors import ConfigError, DataError

HEADER = "user_id,item_id,rating,timestamp"


def table(*rows):
    return "\n".join([HEADER, *rows]) + "\n"


LOG = table("1,10,4.0,10", "1,20,3.0,20")


def write(folder, **files):
    """Write files; `__` stands for a slash and `_dot_` for a dot."""
    for name, content in files.items():
        put(folder, name.replace("__", "/").replace("_dot_", "."), content)


def put(folder, name, content=LOG):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2]}).to_parquet(path)
    else:
        path.write_text(content)


def packed(folder):
    """An archive of the same files."""
    target = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return target


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "shop"
    path.mkdir()
    return path


def chosen(source, **options):
    return detect_layout(source, ReadOptions(**options)).ratings


def refused(source, match, **options):
    with pytest.raises(DataError, match=match) as caught:
        detect_layout(source, ReadOptions(**options))
    return str(caught.value)


ONE_LOG = [
    ["2019/ratings.csv", "2020/ratings.csv"],
    ["2019.csv", "2020-01.csv", "2020-02.csv"],
    ["log-1.csv", "log-2.csv", "log-10.csv"],
    ["part-0.csv", "part-1.csv.gz"],
    ["year=2019/month=1/a.parquet", "year=2019/month=10/a.parquet", "year=2020/month=2/a.parquet"],
    ["country=de/part-0.parquet", "country=fr/part-0.parquet"],
    ["2019-Oct.csv", "2019-Nov.csv", "2019-Dec.csv", "2020-Jan.csv"],
    ["part-00000-3b1f8c1a-5e7d-4a5b-9c3d-0123456789ab-c000.snappy.parquet",
     "part-00001-3b1f8c1a-5e7d-4a5b-9c3d-0123456789ab-c000.snappy.parquet",
     "part-00002-ffffffff-5e7d-4a5b-9c3d-0123456789ab-c000.snappy.parquet"],
    ["2020Q1/ratings.csv", "2020Q2/ratings.csv"],
    ["web1.csv", "web20200101.csv"],
    ["user_id=/a.parquet", "user_id=7/a.parquet"],
    ["20200101T000000Z.csv", "20200102T120000Z.csv"],
    ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
    ["ml-100/ratings.dat", "ml-200/ratings.dat"],
]  # fmt: skip

SEVERAL_LOGS = [
    ["train.csv", "valid.csv", "test.csv"],
    ["train/ratings.csv", "test/ratings.csv"],
    ["split=train/a.parquet", "split=test/a.parquet"],
    ["a/ratings.dat", "b/ratings.dat"],
    ["ratings.csv", "ratings_small.csv"],
    ["ml-1m/ratings.dat", "ml-10m/ratings.dat"],
    ["ml-latest/ratings.csv", "ml-100k/u.data"],
    ["fold1/ratings.csv", "fold2/ratings.csv"],
    ["v1/ratings.csv", "v2/ratings.csv"],
    ["log (1).csv", "log (2).csv"],
    ["log.csv", "log-1.csv"],
    ["clicks.csv", "purchases.csv"],
    ["ml.train.inter", "ml.test.inter"],
    ["headerless.csv", "log.csv"],
    ["log.csv", "log.parquet"],
    ["log-1.csv", "log-1.csv.gz"],
]


@pytest.mark.parametrize("names", ONE_LOG, ids=lambda names: names[-1])
def test_names_that_differ_in_numbers_and_partitions_are_one_log_in_natural_order(folder, names):
    for name in reversed(names):
        put(folder, name)
    assert chosen(folder) == names
    assert chosen(packed(folder)) == names


@pytest.mark.parametrize("names", SEVERAL_LOGS, ids=lambda names: names[-1])
def test_several_logs_are_refused_by_name_with_the_setting_that_chooses(folder, names):
    for name in names:
        put(folder, name, "1,10,4.0,10\n" if name == "headerless.csv" else LOG)
    for source in (folder, packed(folder)):
        message = refused(source, r"may be several logs.*with files = ")
        assert all(name in message for name in names)
        for name in names:
            assert chosen(source, files=glob_escape(name)) == [name]


def glob_escape(name):
    return re.sub(r"([*?[])", r"[\1]", name)


def test_parts_of_several_years_are_read_as_one_log(folder):
    write(folder, **{"2019__ratings_dot_csv": LOG, "2020__ratings_dot_csv": table("2,10,5.0,30")})
    ratings = read_ratings(folder)
    assert ratings.users.ids.tolist() == [1, 2]
    assert ratings.timestamp.tolist() == [10, 20, 30]


def test_without_times_parts_are_in_natural_order(folder):
    for n in range(1, 12):
        (folder / f"log-{n}.csv").write_text(f"user_id,item_id\n1,{n * 10}\n")
    for source in (folder, packed(folder)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ratings = read_ratings(source)
        assert ratings.items.ids[ratings.item_index].tolist() == [n * 10 for n in range(1, 12)]


def test_files_with_a_list_of_items_per_user_are_not_pairs(folder):
    write(folder, train_dot_txt="0 5 6 7\n1 6 8\n", test_dot_txt="0 9\n1 5\n")
    write(folder, user_list_dot_txt="org_id remap_id\nann 0\n")
    write(folder, item_list_dot_txt="org_id remap_id\nx 5\n")
    assert "train.txt" in refused(folder, "may be several logs")


@pytest.mark.parametrize(
    "others",
    [
        {"tags.csv": "userId,movieId,tag,timestamp\n1,2,a,3\n"},
        {"links.csv": "movieId,imdbId\n1,2\n", "genome-scores.csv": "movieId,tagId\n1,2\n"},
        {"users.csv": "user_id,item_id\n1,2\n", "items.csv": "item_id,user_id\n1,2\n"},
        {"category_tree.csv": "categoryid,parentid\n1,2\n"},
        {"movies_metadata.csv": "\ufeffadult;id\nno;2\n"},
        {"items.jsonl": '{"item_id": 1}\n'},
        {"dataset.json": '{\n  "rows": 2\n}\n', "stats.json": '{"rows": 2}'},
        {"notes.txt": "This is a log of the shop, and\nno table.\n"},
        {"README.txt": "read me\n", "LICENSE.txt": "as is\n", "notes.md": "# Notes\n"},
        {"_SUCCESS": "", ".part-0.csv.crc": "x", "_temporary/0/part-1.csv": LOG},
        {"_committed_1": "", "_started_1": "", "__MACOSX/._events.csv": "x"},
        {".hidden/events.csv": LOG, ".events.csv": LOG, "_old/events.csv": LOG},
        {"events.csv.quarantine.parquet": ""},
    ],
    ids=lambda others: next(iter(others)),
)
def test_other_tables_and_hidden_files_are_not_rows(folder, others):
    put(folder, "events.csv")
    for name, content in others.items():
        put(folder, name, content)
    for source in (folder, packed(folder)):
        assert chosen(source) == ["events.csv"]
        # A pattern chooses among other tables, but never items, users, tags or links.
        tables = {"events.csv", "category_tree.csv", "movies_metadata.csv"} & {
            *others,
            "events.csv",
        }
        assert chosen(source, files="**/*.csv") == sorted(tables)


def test_a_table_without_ids_is_not_a_log(folder):
    put(folder, "a.csv", "x,y\n1,2\n")
    put(folder, "b.csv", "z\n1\n")
    refused(
        folder,
        r"no file of ratings in it: a\.csv: no column 'user_id', 'item_id' among 'x', 'y'; "
        r"b\.csv: no column 'user_id', 'item_id' among 'z'; .* files=, .* columns= .* encoding=",
    )
    assert chosen(folder, files="a.csv") == ["a.csv"]
    (folder / "b.csv").write_text("visitor,film\n1,2\n")
    assert chosen(folder, columns={"user_id": "visitor", "item_id": "film"}) == ["b.csv"]


def test_the_reasons_of_many_tables_with_many_columns_are_shortened(folder):
    for name in "abcdef":
        put(folder, f"{name}.csv", ",".join(f"c{i}" for i in range(99)) + "\n")
    assert (
        len(refused(folder, r"among 'c0', .*'c7', \.\.\.; .*d\.csv: .*; and 2 more; choose")) < 1000
    )


BOOKS = "ISBN;title\n9789601234567;Ζορμπάς\n"
SALES = "Κωδικός πελάτη;ISBN;Ημερομηνία\nΑ1;9789601234567;2026-11-01\nΑ2;9789601234567;2026-11-02\n"
GREEK = {"user_id": "Κωδικός πελάτη", "item_id": "ISBN", "timestamp": "Ημερομηνία"}


@pytest.fixture
def bookshop(folder):
    """A folder whose log and table of books are in a Greek code page."""
    for name, text in [("sales.csv", SALES), ("books.csv", BOOKS)]:
        (folder / name).write_text(text, encoding="cp1253")
    return folder


def test_columns_are_looked_for_in_the_declared_encoding(bookshop):
    for source in (bookshop, packed(bookshop)):
        assert chosen(source, encoding="cp1253", columns=GREEK) == ["sales.csv"]
    (bookshop / "πωλήσεις 11-2026.csv").write_text(SALES, encoding="cp1253")
    refused(bookshop, "sales.csv, πωλήσεις 11-2026.csv may be", encoding="cp1253", columns=GREEK)
    with pytest.raises(
        DataError, match=r"books\.csv: no column .* or leave this file out of files="
    ):
        read_ratings(bookshop, files="*.csv", encoding="cp1253", columns=GREEK)
    ratings = read_ratings(
        bookshop, files="[sπ]*.csv", encoding="cp1253", columns=GREEK,
        on_report=lambda report: None, repeats="allow",
    )  # fmt: skip
    assert ratings.users.ids.tolist() == ["Α1", "Α2"]


def test_a_table_in_another_encoding_is_named_with_the_readings(bookshop):
    readings = r"\(set encoding to .*cp1253 'Κωδικός πελάτη'"
    message = refused(bookshop, rf"sales\.csv: is not utf-8 text {readings}")
    assert "books.csv: no column 'user_id' among 'ISBN', 'title'" in message
    # If columns of these names are wanted, the table that may have them is read.
    assert chosen(bookshop, columns=GREEK) == ["sales.csv"]
    with pytest.raises(DataError, match=r"sales\.csv, line 1: byte .* is not utf-8 text; set enc"):
        read_ratings(bookshop, columns=GREEK)
    (bookshop / "log.csv").write_text(SALES)
    refused(bookshop, r"log\.csv, sales\.csv may be several logs", columns=GREEK)


def test_the_pattern_that_is_proposed_chooses_exactly_the_logs(folder):
    for name in ("sales.csv", "items.csv", "orders.csv"):
        put(folder, name)
    refused(folder, r"or for all of them '\*\.csv', with")
    (folder / "shop").mkdir()
    (folder / "orders.csv").rename(folder / "shop" / "orders.csv")
    refused(folder, r"or for all of them '\*\*/\*\.csv', with")
    assert chosen(folder, files="**/*.csv") == ["sales.csv", "shop/orders.csv"]
    put(folder, "books.csv", "ISBN,price\n7,12\n")
    refused(folder, r"for all of them \['\*\*/\*\.csv', '!books\.csv'\], with")
    assert chosen(folder, files=["**/*.csv", "!books.csv"]) == ["sales.csv", "shop/orders.csv"]
    for name in ("a.csv", "b.csv", "c.csv"):
        put(folder, name, "ISBN,price\n7,12\n")
    refused(folder, "choose with files = 'sales.csv', or a list of several, with")


def test_a_pattern_matches_no_item_table_but_its_name_does(folder):
    names = ["2025.csv", "2026.csv", "items.csv", "users.csv", "links.csv", "below/items.csv"]
    for name in [*names, ".log.csv", "_log.csv", "2025.csv.quarantine.parquet"]:
        put(folder, name)
    assert chosen(folder, files="*.csv") == chosen(folder, files="*[!x].csv") == names[:2]
    assert chosen(folder, files="**/*.csv") == names[:2]
    for name in [*names, ".log.csv", "_log.csv"]:
        assert chosen(folder, files=name) == [name]
    assert chosen(folder, files="*/items.csv") == ["below/items.csv"]
    assert chosen(packed(folder), files="items.csv") == ["items.csv"]
    refused(
        folder, r"no file that matches .*'item\*\.csv'.*leaves out item tables", files="item*.csv"
    )
    put(folder, "b[1].csv")
    assert chosen(folder, files="b[1].csv") == ["b[1].csv"]


def test_files_is_a_pattern_of_paths(folder):
    names = ["2019/ratings.csv", "2020/ratings.csv", "test/ratings.csv", "x/y/log.csv", "z.csv"]
    for name in names:
        put(folder, name)
    assert chosen(folder, files="20*/ratings.csv") == names[:2]
    assert chosen(folder, files="20[!1]?/*") == names[1:2]
    assert chosen(folder, files="./*/ratings.csv") == names[:3]
    assert chosen(folder, files="**/*.csv") == names
    assert chosen(folder, files="*.csv") == ["z.csv"]
    assert "z.csv" in refused(
        folder, r"no file that matches files = '\*\.tsv' among", files="*.tsv"
    )
    with pytest.raises(ConfigError, match="chooses in a folder"):
        detect_layout(folder / "z.csv", ReadOptions(files="z.csv"))
    (folder / "log.tab").write_text(LOG)
    refused(folder, "unknown file type .tab; choose layout=", files="log.tab")
    assert chosen(folder, files="log.tab", layout="csv") == ["log.tab"]


def test_a_pipe_is_named_as_one(folder):
    os.mkfifo(folder / "log.csv")
    assert "log.csv: is a pipe or a device; save what it gives" in refused(
        folder / "log.csv", "pipe"
    )


def test_files_is_a_list_of_patterns_some_of_which_leave_out(folder):
    names = ["ekim.csv", "eylül.csv", "kasım.csv"]
    for name in names:
        put(folder, name)
    put(folder, "fiyatlar.csv", "barkod,fiyat\n7,12\n")
    assert chosen(folder, files=["*.csv", "!fiyatlar.csv"]) == names
    assert chosen(folder, files=["!./f*.csv", "*.csv"]) == names
    assert chosen(folder, files=["kasım.csv", "ek*.csv", "ekim.csv"]) == ["ekim.csv", "kasım.csv"]
    assert chosen(folder, files=["!k*.csv", "!eyl*.csv"]) == ["ekim.csv"]  # of what is a log
    refused(folder, "no file that matches files = 'mart.csv' among", files=["ekim.csv", "mart.csv"])
    refused(folder, "no file that matches files = '!mart.csv'", files=["*.csv", "!mart.csv"])
    found = detect_layout(folder, ReadOptions(files="e*.csv"))
    assert (found.ratings, found.unread) == (names[:2], ["fiyatlar.csv", "kasım.csv"])
    assert detect_layout(folder / "ekim.csv").unread == []


def test_files_of_several_formats_are_not_one_log(folder):
    for name in ("a-1.csv", "a-2.jsonl", "a-3.parquet", "b/ratings.csv"):
        put(folder, name)
    for pattern in ("a-[12].*", "a-[13].*", "a-[23].*"):
        refused(folder, "may be several logs, or one in formats of which", files=pattern)
    both = detect_layout(folder, ReadOptions(files="**/*.csv"))
    assert (both.name, both.ratings) == ("csv", ["a-1.csv", "b/ratings.csv"])


@pytest.mark.parametrize(
    "name", ["log-2.xlsx", "log-2", "log-2.csv.7z", "log-2.zip", "old.zip", "log-1.csv.1"]
)
def test_a_part_that_cannot_be_read_is_refused(folder, name):
    put(folder, "log-1.csv")
    put(folder, name, "x")
    assert name in refused(folder, "of which some are not read.*save others as CSV or Parquet")
    assert chosen(folder, files="log-1.csv") == ["log-1.csv"]


def test_the_archive_of_an_extracted_data_set_is_left_alone(folder):
    put(folder, "ml-1m/ratings.dat")
    put(folder, "ml-1m.zip")
    put(folder, "shop.zip")
    assert chosen(folder) == ["ml-1m/ratings.dat"]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst", ".GZ"])
def test_compressed_parts_are_read(folder, suffix):
    compress = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
    }[suffix.lower()]
    (folder / f"log-1.csv{suffix}").write_bytes(compress(LOG.encode()))
    put(folder, "log-2.csv", table("2,10,5.0,30"))
    for source in (folder, packed(folder)):
        assert read_ratings(source).timestamp.tolist() == [10, 20, 30]
    put(folder, "log.parquet")
    (folder / "log.parquet.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"log\.parquet\.gz: cannot be read as Parquet"):
        read_ratings(folder / "log.parquet.gz")


def test_an_archive_with_one_file_of_any_case(tmp_path):
    with zipfile.ZipFile(tmp_path / "LOG.CSV.ZIP", "w") as archive:
        archive.writestr("LOG.CSV", LOG)
    assert len(read_ratings(tmp_path / "LOG.CSV.ZIP")) == 2


def test_encrypted_members_and_links_in_archives_are_refused(tmp_path):
    path = tmp_path / "log.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("log.csv", LOG)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, r"log\.zip:log\.csv: is encrypted or a link; extract the archive")
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("log.csv")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    refused(path, "is encrypted or a link; extract the archive")


def test_links_are_followed_without_loops_and_nothing_is_read_twice(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere, "ratings.csv")
    put(folder, "2020/ratings.csv")
    (folder / "2019").symlink_to(elsewhere)
    (folder / "2020" / "loop").symlink_to(folder)
    (folder / "latest").symlink_to(folder / "2020")
    (elsewhere / "up").symlink_to(tmp_path)
    assert chosen(folder) == ["2019/ratings.csv", "2020/ratings.csv"]
    (folder / "2020" / "ratings-latest.csv").symlink_to("ratings.csv")
    assert chosen(folder) == ["2019/ratings.csv", "2020/ratings.csv"]
    (tmp_path / "link").symlink_to(folder)
    assert chosen(tmp_path / "link") == ["2019/ratings.csv", "2020/ratings.csv"]


def test_a_link_that_leads_nowhere_is_named(folder, tmp_path):
    put(folder, "log-1.csv")
    (folder / ".#log-1.csv").symlink_to("nobody@nowhere")
    assert chosen(folder) == ["log-1.csv"]
    (folder / "log-2.csv").symlink_to(tmp_path / "gone.csv")
    refused(folder, r"log-2\.csv: is a link that leads nowhere")
    refused(folder / "log-2.csv", "a link that leads nowhere")
    assert chosen(folder, files="log-1.csv") == ["log-1.csv"]
    (folder / "log-2.csv").unlink()
    os.mkfifo(folder / "log-2.csv")
    refused(folder, r"log-2\.csv: is a link that leads nowhere, a pipe or a device")


@pytest.mark.parametrize(
    ("marker", "kind", "remedy"),
    [
        ("_delta_log/00000.json", "Delta Lake", "deltalake.DeltaTable("),
        ("metadata/v1.metadata.json", "Iceberg", "StaticTable.from_metadata("),
        (".hoodie/hoodie.properties", "Hudi", "spark.read.format('hudi')"),
    ],
)
def test_tables_with_metadata_of_their_own_are_refused(folder, marker, kind, remedy):
    put(folder, "table/data/day=1/part-0.parquet")
    put(folder, f"table/{marker}", json.dumps({}))
    put(folder, "export/part-0.parquet")
    inside = folder / "table" / "data" / "day=1"
    for source in (folder / "table", folder / "table" / "data", inside, inside / "part-0.parquet"):
        message = refused(source, f"table: is a table of {kind}")
        assert remedy in message
        assert "export it by pyarrow.parquet.write_table(" in message
        assert str(folder / "table") in message
    assert chosen(folder, files="export/*") == ["export/part-0.parquet"]
    refused(folder, f"a table of {kind}", files="table/**")
    (folder / "export" / "part-0.parquet").unlink()
    refused(folder, f"a table of {kind}")
    refused(packed(folder), f"a table of {kind}")


def test_a_single_file_has_the_catalogue_next_to_it(folder):
    put(folder, "log.csv")
    put(folder, "items.csv", "item_id,title\n10,Heat\n20,Ran\n")
    assert detect_layout(folder / "log.csv").catalogue == "items.csv"
    assert read_ratings(folder / "log.csv", on_report=print).catalogue["title"].tolist() == [
        "Heat",
        "Ran",
    ]
    put(folder, "movies.csv", "item_id,title\n10,Heat\n20,Ran\n")
    refused(folder, r"items\.csv, movies\.csv are several catalogues of one log")
    (folder / "items.csv").unlink()
    put(folder, "below/movies.csv")
    assert detect_layout(folder / "log.csv").catalogue == "movies.csv"
    os.rename(folder / "log.csv", folder / "below" / "log.csv")  # noqa: PTH104
    assert detect_layout(folder).catalogue == "movies.csv"
    (folder / "movies.csv").unlink()
    assert detect_layout(folder).catalogue == "below/movies.csv"


def test_several_catalogues_of_one_log_are_refused(folder):
    for year in ("2019", "2020"):
        put(folder, f"{year}/ratings.csv")
        put(folder, f"{year}/movies.csv", f"item_id,title\n10,Heat of {year}\n")
    refused(folder, r"2019/movies\.csv, 2020/movies\.csv are several catalogues of one log")
    assert (
        detect_layout(folder, ReadOptions(files="2019/ratings.csv")).catalogue == "2019/movies.csv"
    )
    put(folder, "movies.csv", "item_id,title\n10,Heat\n")
    assert detect_layout(folder).catalogue == "movies.csv"


@given(numbers=st.lists(st.integers(0, 10**6), min_size=2, max_size=9, unique=True))
def test_natural_order_is_the_order_of_numbers(numbers):
    names = [f"log-{n}/part.csv" for n in numbers]
    assert sorted(names, key=natural_order) == [f"log-{n}/part.csv" for n in sorted(numbers)]


@given(names=st.lists(st.text("ab/.-_01９²x", min_size=1, max_size=9), max_size=9))
def test_any_names_can_be_sorted(names):
    assert sorted(sorted(names, key=natural_order)) == sorted(names)
