"""Only a quarantine file of the same source is ever replaced or removed."""

import os
import shutil
import warnings
import zipfile

import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys.data import read_ratings
from recsys.data.quarantine import MARK, source_of
from recsys.errors import DataError

HEADER = "user_id,item_id,rating,timestamp\n"
GOOD = HEADER + "1,10,4.0,10\n1,20,3.0,20\n2,10,5.0,30\n"
BAD = GOOD + "2,20,excellent,40\n"


def read(source, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_ratings(source, **options)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(BAD)
    return path


def refused(source, path, match):
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(DataError, match=match) as caught:
        read(source, quarantine_path=path)
    assert str(path) in str(caught.value)
    assert "name another file with quarantine_path" in str(caught.value)
    assert path.is_dir() or path.read_bytes() == before


@pytest.mark.parametrize("content", [GOOD, BAD])
@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_the_source_is_never_the_quarantine_file(log, content, link):
    log.write_text(content)
    path = log
    if link:
        path = log.with_name("link.parquet")
        link(log, path)
    refused(log, path, "is the source|exists and is not a quarantine file")
    assert log.read_text() == content


@pytest.mark.parametrize("name", ["ratings.csv", "movies.csv", "part.zip"])
def test_no_file_of_a_folder_or_archive_is_the_quarantine_file(tmp_path, name):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "ratings.csv").write_text(GOOD)
    (folder / "movies.csv").write_text("item_id,title\n10,Heat\n20,Ran\n")
    if name == "part.zip":
        source = path = tmp_path / name
        with zipfile.ZipFile(source, "w") as archive:
            archive.write(folder / "ratings.csv", "ratings.csv")
    else:
        source, path = folder, folder / name
    refused(source, path, r"is the source, or in its folder and not named \*\.quarantine")


@pytest.mark.parametrize("content", [GOOD, BAD])
def test_other_files_and_folders_are_kept(tmp_path, log, content):
    log.write_text(content)
    (tmp_path / "notes.txt").write_text("mine")
    refused(log, tmp_path / "notes.txt", "exists and is not a quarantine file")
    pd.DataFrame({"mine": [1]}).to_parquet(tmp_path / "log.csv.quarantine.parquet")
    refused(log, tmp_path / "log.csv.quarantine.parquet", "exists and is not a quarantine file")
    refused(log, tmp_path, "exists and is not a quarantine file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="exists and is not a quarantine file"):
        read(log, quarantine_path=tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="exists and is not a quarantine file"):
        read(log, quarantine_path=tmp_path / "loop")


def test_the_default_file_is_refused_before_reading_if_it_is_not_ours(tmp_path, log):
    pd.DataFrame({"mine": [1]}).to_parquet(tmp_path / "log.csv.quarantine.parquet")
    log.write_text("not\na log")
    with pytest.raises(DataError, match="exists and is not a quarantine file"):
        read(log)


def test_sources_of_one_stem_have_files_of_their_own(tmp_path, log):
    (tmp_path / "log.tsv").write_text(GOOD.replace(",", "\t"))
    read(log)
    path = tmp_path / "log.csv.quarantine.parquet"
    assert pq.read_metadata(path).metadata[MARK] == os.fsencode(log)
    read(tmp_path / "log.tsv")
    assert path.exists()
    refused(tmp_path / "log.tsv", path, f"is the quarantine file of {log}")
    log.write_text(GOOD)
    read(log)
    assert not path.exists()


def test_a_folder_with_one_file_is_the_same_source_as_the_file(tmp_path, log):
    folder = tmp_path / "shop"
    folder.mkdir()
    log.rename(folder / "log-1.csv")
    away = tmp_path / "away.parquet"
    read(folder / "log-1.csv", quarantine_path=away)
    read(folder, quarantine_path=away)
    (folder / "log-2.csv").write_text(GOOD)
    read(folder, quarantine_path=away)
    assert len(pd.read_parquet(away)) == 4  # the bad row and three duplicates
    with pytest.raises(DataError, match=r"is the quarantine file of .*shop;"):
        read(folder / "log-2.csv", quarantine_path=away)


def test_a_quarantine_file_may_be_copied_or_move_with_its_source(tmp_path, log):
    folder, moved, copied = tmp_path / "old", tmp_path / "new", tmp_path / "copy"
    folder.mkdir()
    log.rename(folder / "log.csv")
    read(folder)
    shutil.copytree(folder, copied)
    (copied / "log.csv").write_text(BAD + "3,10,good,1\n")
    read(copied)
    quarantined = copied / "log.csv.quarantine.parquet"
    assert len(pd.read_parquet(quarantined)) == 2
    assert source_of(quarantined) == str(copied / "log.csv")
    assert source_of(folder / quarantined.name) == str(folder / "log.csv")
    # Elsewhere, or under another name, it is the file of the other source.
    refused(copied / "log.csv", folder / quarantined.name, f"is the quarantine file of {folder}")
    (copied / "log.csv").rename(copied / "new.csv")
    quarantined.rename(copied / "new.csv.quarantine.parquet")
    (copied / "log.csv").write_text(GOOD)
    with pytest.raises(DataError, match=r"is the quarantine file of .*copy/log.csv"):
        read(copied / "new.csv")
    folder.rename(moved)
    (moved / "log.csv").write_text(GOOD)
    read(moved)
    assert [path.name for path in moved.iterdir()] == ["log.csv"]


def test_in_a_folder_of_parts_only_the_suffix_is_allowed(tmp_path, log):
    with pytest.raises(
        DataError, match=r"is the source, or in its folder and not named \*\.quarantine\.parquet"
    ):
        read(tmp_path, quarantine_path=tmp_path / "bad.parquet")
    read(tmp_path, quarantine_path=tmp_path / "bad.quarantine.parquet")
    assert read(tmp_path, quarantine_path=tmp_path / "bad.quarantine.parquet").n_users == 2


def test_a_link_to_the_quarantine_file_stays_a_link(tmp_path, log):
    link = tmp_path / "link.parquet"
    link.symlink_to(tmp_path / "new" / "away.parquet")
    for content, n_rows in [(BAD, 1), (BAD + "3,10,good,1\n", 2)]:
        log.write_text(content)
        read(log, quarantine_path=link)
        assert len(pd.read_parquet(tmp_path / "new" / "away.parquet")) == n_rows
    log.write_text(GOOD)
    read(log, quarantine_path=link)
    assert link.is_symlink()
    assert not link.exists()


def test_rows_of_a_table_may_replace_those_of_a_table(tmp_path):
    path = tmp_path / "away.parquet"
    for ids in ([1, None], [1, None, None, 2, 2]):
        table = pd.DataFrame({"user_id": ids, "item_id": range(len(ids))})
        read(table, quarantine_path=path)
        assert len(pd.read_parquet(path)) == ids.count(None)
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(DataError, match="exists and is not a quarantine file"):
        read(table, quarantine_path=tmp_path / "mine")


@pytest.mark.parametrize("name", ["log.csv.quarantine.parquet", "part-1.parquet"])
def test_a_quarantine_file_is_never_read(tmp_path, log, name):
    read(log)
    folder = tmp_path / "parts"
    folder.mkdir()
    path = (tmp_path / "log.csv.quarantine.parquet").rename(folder / name)
    with pytest.raises(DataError, match=f"{name}: holds rows left out of {log}; move it away"):
        read(path)
    if name == "part-1.parquet":
        pd.DataFrame({"user_id": [1], "item_id": [1]}).to_parquet(folder / "part-0.parquet")
        with pytest.raises(DataError, match=f"{name}: holds rows left out of {log}; move it away"):
            read(folder)
