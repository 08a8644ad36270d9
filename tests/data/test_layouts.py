"""The same five ratings in every known layout."""

import gzip
import zipfile

import pandas as pd
import pytest

from recsys.data import Checks, DataWarning, read_ratings
from recsys.errors import DataError

ROWS = [(1, 30, 4.0, 20), (1, 10, 3.5, 10), (2, 10, 5.0, 30), (2, 20, 2.0, 40), (2, 30, 4.5, 50)]
TITLES = {10: "Léon: The Professional (1994)", 20: "Heat (1995)", 30: "Net, The (1995)"}
LOG = pd.DataFrame(ROWS, columns=["user_id", "item_id", "rating", "timestamp"])


def lines(rows, separator, header=()):
    return "\n".join(
        separator.join(map(str, row)) for row in [*([header] if header else []), *rows]
    )


def movielens(folder):
    header = ("userId", "movieId", "rating", "timestamp")
    (folder / "ratings.csv").write_text(lines(ROWS, ",", header) + "\n")
    movies = [(item, f'"{title}"', "Crime") for item, title in TITLES.items()]
    (folder / "movies.csv").write_text(lines(movies, ",", ("movieId", "title", "genres")))


def movielens_dat(folder):
    (folder / "ratings.dat").write_text(lines(ROWS, "::") + "\n")
    movies = [(item, title, "Crime") for item, title in TITLES.items()]
    (folder / "movies.dat").write_text(lines(movies, "::") + "\n", encoding="latin-1")


def movielens_100k(folder):
    (folder / "u.data").write_text(lines(ROWS, "\t") + "\n")
    crime = [0] * 6 + [1] + [0] * 12
    movies = [(item, title, "01-Jan-1995", "", "", *crime) for item, title in TITLES.items()]
    (folder / "u.item").write_text(lines(movies, "|") + "\n", encoding="latin-1")


def csv(folder):
    LOG.to_csv(folder / "log.csv", index=False)


def tsv(folder):
    LOG.to_csv(folder / "log.tsv", index=False, sep="\t")


def parquet(folder):
    LOG.to_parquet(folder / "log.parquet")


def csv_parts(folder):
    LOG[:2].to_csv(folder / "part-0.csv", index=False)
    LOG[2:].to_csv(folder / "part-1.csv", index=False)


def gzipped_parts(folder):
    LOG[:2].to_csv(folder / "part-0.csv.gz", index=False)
    LOG[2:].to_csv(folder / "part-1.csv.gz", index=False)


def hive(folder):
    for user, rows in LOG.groupby("user_id"):
        part = folder / f"user_id={user}"
        part.mkdir()
        rows.drop(columns="user_id").to_parquet(part / "part-0.parquet")


WITH_CATALOGUE = [movielens, movielens_dat, movielens_100k]
WITHOUT = [csv, tsv, parquet, csv_parts, gzipped_parts, hive]


def check(ratings):
    assert ratings.users.ids.tolist() == [1, 2]
    assert ratings.items.ids.tolist() == [10, 20, 30]
    assert ratings.items.ids[ratings.item_index].tolist() == [10, 30, 10, 20, 30]
    assert ratings.rating.tolist() == [3.5, 4.0, 5.0, 2.0, 4.5]
    assert ratings.timestamp.tolist() == [10, 20, 30, 40, 50]


@pytest.mark.parametrize("write", WITH_CATALOGUE + WITHOUT)
def test_a_folder_is_recognised(tmp_path, write):
    write(tmp_path)
    ratings = read_ratings(tmp_path)
    check(ratings)
    if write in WITH_CATALOGUE:
        assert ratings.catalogue["title"].tolist() == list(TITLES.values())
        assert ratings.catalogue["genres"].tolist() == ["Crime"] * 3


@pytest.mark.parametrize("write", WITH_CATALOGUE + WITHOUT)
def test_a_zip_archive_is_read_in_place(tmp_path, write):
    folder = tmp_path / "published"
    folder.mkdir()
    write(folder)
    with zipfile.ZipFile(tmp_path / "published.zip", "w") as archive:
        archive.writestr("published/README.txt", "Read me first.")
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    ratings = read_ratings(tmp_path / "published.zip")
    check(ratings)
    if write in WITH_CATALOGUE:
        assert ratings.catalogue["title"].tolist() == list(TITLES.values())


@pytest.mark.parametrize("write", [movielens, movielens_dat, movielens_100k, csv, tsv])
def test_a_gzipped_file_is_read_in_place(tmp_path, write):
    write(tmp_path)
    (path,) = [path for path in tmp_path.iterdir() if path.stem not in ("movies", "u.item")][:1]
    if path.name == "u.item":
        path = tmp_path / "u.data"
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    check(read_ratings(packed))
    check(read_ratings(tmp_path))


def test_a_sequence_file_is_in_chronological_order(tmp_path):
    path = tmp_path / "ml-1m.txt"
    path.write_text("1 30\n1 10\n2 20\n2 10\n2 30\n")
    for source in (path, tmp_path):
        ratings = read_ratings(source)
        assert ratings.items.ids[ratings.item_index].tolist() == [30, 10, 20, 10, 30]
        assert ratings.rating is None
        assert ratings.timestamp is None


@pytest.mark.parametrize("form", ["csv", "parquet", "table"])
def test_columns_may_have_any_name(tmp_path, form):
    theirs = {"user_id": "visitor", "item_id": "film", "rating": "stars", "timestamp": "when"}
    log = LOG.rename(columns=theirs).assign(remark="fine")
    path = tmp_path / f"log.{form}"
    if form == "csv":
        log.to_csv(path, index=False)
    elif form == "parquet":
        log.to_parquet(path)
    check(read_ratings(log if form == "table" else path, columns=theirs))


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match=r"the table: no column 'visitor' for user_id"):
        read_ratings(LOG, columns={"user_id": "visitor"})
    with pytest.raises(
        DataError, match=r"columns has unknown keys 'who'; the keys are user_id, item_id"
    ):
        read_ratings(LOG, columns={"who": "visitor"})


def test_the_layout_can_be_named(tmp_path):
    path = tmp_path / "log.tab"
    path.write_text(lines(ROWS, "::"))
    check(read_ratings(path, layout="movielens-dat"))
    with pytest.raises(DataError, match=r"unknown file type \.tab; choose layout="):
        read_ratings(path)
    with pytest.raises(DataError, match="no layout 'dat'; the layouts are movielens, "):
        read_ratings(path, layout="dat")


@pytest.mark.parametrize(
    "times",
    [
        [20_000, 10_000, 30_000, 40_000, 50_000],
        [
            "1970-01-01T00:00:20Z",
            "1970-01-01 00:00:10",
            "1970-01-01T01:00:30+01:00",
            "1970-01-01T00:00:40.5",
            "1970-01-01T00:00:50",
        ],
        pd.to_datetime([20, 10, 30, 40, 50], unit="s"),
    ],
    ids=["ms", "ISO", "datetimes"],
)
def test_timestamp_formats(times, tmp_path):
    if isinstance(times[0], int):
        later = 1_600_000_000_000  # milliseconds are recognised by their size
        times = [later + time for time in times]
        ratings = read_ratings(LOG.assign(timestamp=times))
        assert (ratings.timestamp - later // 1000).tolist() == [10, 20, 30, 40, 50]
        return
    log = LOG.assign(timestamp=times)
    check(read_ratings(log))
    log.to_csv(tmp_path / "log.csv", index=False)
    check(read_ratings(tmp_path / "log.csv"))


def test_an_error_in_a_part_names_the_part_and_its_line(tmp_path):
    csv_parts(tmp_path)
    (tmp_path / "part-1.csv").write_text("user_id,item_id,rating,timestamp\n\n2,20,x,40\n")
    with pytest.raises(DataError, match=r"part-1\.csv, line 3, column 'rating': 'x' is not"):
        read_ratings(tmp_path, checks=Checks(bad_rating="error"))
    with pytest.warns(DataWarning, match=r"2 of 3 rows .*part-1\.csv, line 3"):
        assert len(read_ratings(tmp_path)) == 2
    quarantined = pd.read_parquet(f"{tmp_path}.quarantine.parquet")
    assert quarantined["file"].tolist() == [str(tmp_path / "part-1.csv")]
    assert quarantined["line"].tolist() == [3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "log.csv.gz",
            gzip.compress(b"user_id,item_id\n" + b"1,2\n" * 999, mtime=0)[:-20],
            "cannot be read",
        ),
        ("log.zip", b"PK no archive", "cannot be read as a zip archive"),
        ("log.csv", b"user_id,item_id\n1,\xff\n", "byte 0xff is not utf-8 text"),
        ("log.csv", b"", "the file is empty"),
        ("log.csv", b"user_id,item_id\n", "there are no rows"),
        ("log.parquet", b"PAR1", "cannot be read as Parquet"),
        (
            "ratings.dat",
            b"1::2::3\n",
            "line 1: '1::2::3' does not name the columns, and is not 'user_id::",
        ),
        ("notes.md", b"# Notes", "unknown file type .md"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_ratings(tmp_path / name)
    assert message in str(caught.value)
    assert name in str(caught.value)


def test_a_folder_of_several_kinds_is_ambiguous(tmp_path):
    csv(tmp_path)
    parquet(tmp_path)
    with pytest.raises(DataError, match=r"log.csv, log.parquet may be .*name one file"):
        read_ratings(tmp_path)
    check(read_ratings(tmp_path, layout="parquet"))
