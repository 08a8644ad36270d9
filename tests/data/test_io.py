import numpy as np
import pandas as pd
import pytest

from recsys.data import load_interactions, read_ratings, save_interactions
from recsys.errors import BundleError


@pytest.fixture
def text_ids(small_log):
    return read_ratings(small_log.astype({"user_id": str, "item_id": str}))


@pytest.mark.parametrize("missing", [[], ["rating"], ["rating", "timestamp"]])
def test_what_is_saved_comes_back(small_log, tmp_path, missing):
    whole = read_ratings(small_log.drop(columns=missing))
    loaded = load_interactions(save_interactions(whole, tmp_path / "saved"))
    assert loaded.digest == whole.digest
    assert loaded.users == whole.users
    assert loaded.items == whole.items
    pd.testing.assert_frame_equal(loaded.catalogue, whole.catalogue)
    assert np.array_equal(loaded.user_offsets, whole.user_offsets)


def test_ids_that_are_text_and_users_without_rows_come_back(text_ids, tmp_path):
    few = text_ids.filter(text_ids.user_index == 1)
    loaded = load_interactions(save_interactions(few, tmp_path / "saved"))
    assert loaded.digest == few.digest
    assert loaded.users.ids.tolist() == ["1", "2", "3"]
    assert loaded.history_lengths.tolist() == few.history_lengths.tolist() == [0, 3, 0]


def test_a_damaged_or_strange_folder_is_refused(text_ids, tmp_path):
    folder = save_interactions(text_ids, tmp_path / "saved")
    events = folder / "events.npz"
    events.write_bytes(events.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"events\.npz"):
        load_interactions(folder)
    with pytest.raises(BundleError, match="missing"):
        load_interactions(tmp_path)
