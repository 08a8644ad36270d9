"""Recommendations for all users in a folder of Parquet files."""

import numpy as np
import pandas as pd
import pytest

from recsys.data import read_ratings
from recsys.recommender import Recommender
from recsys.recommender.batch import is_up_to_date, write_recommendations
from recsys.recommender.bundle import save_bundle

METADATA = {"model": "models:/recsys/1"}


@pytest.fixture(scope="module")
def log(bundle):
    """Three users; the history of the second contains an unknown item."""
    known = bundle.items.ids[:3].tolist()
    rows = [(1, known[0]), (1, known[1]), (2, 10**6), (2, known[2]), (3, known[0])]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))


def test_files_equal_next_items(bundle, log, tmp_path):
    rec = Recommender(bundle)
    folder = write_recommendations(
        rec, log, tmp_path / "day=2026-11-25", k=4, metadata=METADATA, chunk_size=2
    )
    assert {path.name for path in folder.iterdir()} == {
        "_manifest.json", "part-000000.parquet", "part-000001.parquet"
    }  # fmt: skip
    table = pd.read_parquet(tmp_path)  # the manifest is skipped, the day is a column
    assert set(table["day"]) == {"2026-11-25"}
    assert table["user_id"].tolist() == np.repeat([1, 2, 3], 4).tolist()
    known = bundle.items.ids[:3].tolist()
    for user, history in {1: known[:2], 2: known[2:], 3: known[:1]}.items():
        rows = table[table["user_id"] == user]
        expected = rec.next_items(history, k=4)
        assert rows["item_id"].tolist() == expected["item_id"].tolist()
        assert rows["rank"].tolist() == [1, 2, 3, 4]
        assert np.allclose(rows["score"], expected["score"], rtol=1e-5)


def test_the_history_of_a_user_is_the_latest_session(bundle, tmp_path):
    known = bundle.items.ids[:3].tolist()
    rows = [(1, "a", known[0]), (1, "b", known[1]), (1, "b", known[2]), (2, "c", known[0])]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "session_id", "item_id"]))
    rec = Recommender(bundle)
    table = pd.read_parquet(write_recommendations(rec, log, tmp_path / "day", k=2))
    assert table["user_id"].tolist() == [1, 1, 2, 2]
    assert table["item_id"].tolist()[:2] == rec.next_items(known[1:], k=2)["item_id"].tolist()


def test_users_without_interactions_get_no_rows(bundle, log, tmp_path):
    rec = Recommender(bundle)
    write_recommendations(rec, log.filter(log.user_index != 0), tmp_path / "day", k=2)
    assert set(pd.read_parquet(tmp_path / "day")["user_id"]) == {2, 3}


def test_up_to_date_depends_on_metadata_and_content(bundle, log, tmp_path):
    folder = tmp_path / "day"
    assert not is_up_to_date(folder, k=2, metadata=METADATA)
    write_recommendations(Recommender(bundle), log, folder, k=2, metadata=METADATA)
    assert is_up_to_date(folder, k=2, metadata=METADATA)
    assert not is_up_to_date(folder, k=3, metadata=METADATA)
    assert not is_up_to_date(folder, k=2, metadata={"model": "models:/recsys/2"})
    part = folder / "part-000000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    assert not is_up_to_date(folder, k=2, metadata=METADATA)


def test_an_interrupted_write_keeps_the_old_folder_and_continues(bundle, log, tmp_path):
    save_bundle(bundle, tmp_path / "bundle")
    rec, days = Recommender.load(tmp_path / "bundle"), tmp_path / "days"
    folder, options = days / "day", {"metadata": METADATA, "chunk_size": 1}
    write_recommendations(rec, log, folder, k=2, **options)

    def stop(written, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_recommendations(rec, log, folder, k=3, **options, on_file=stop)
    assert is_up_to_date(folder, k=2, metadata=METADATA)
    unfinished = days / ".day.unfinished" / "new"
    (first,) = unfinished.iterdir()
    written = first.stat().st_ino
    (unfinished / ".part-000001.parquet.killed00").mkdir()
    write_recommendations(rec, log, folder, k=3, **options)
    assert (folder / first.name).stat().st_ino == written
    assert [path.name for path in days.iterdir()] == ["day"]
    expected = write_recommendations(rec, log, days / "other", k=3, **options)
    for name in ("part-000000.parquet", "part-000001.parquet", "part-000002.parquet"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    assert is_up_to_date(folder, k=3, metadata=METADATA)


def test_files_of_other_inputs_are_dropped(bundle, log, tmp_path):
    """Of another model in memory, or of other ratings."""
    folder = tmp_path / "day"

    def stop(written, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_recommendations(Recommender(bundle), log, folder, k=2, on_file=stop)
    table = pd.read_parquet(tmp_path / ".day.unfinished" / "new")
    assert set(table["user_id"]) == {1, 2, 3}
    write_recommendations(Recommender(bundle), log.filter(log.user_index != 0), folder, k=2)
    assert set(pd.read_parquet(folder)["user_id"]) == {2, 3}
