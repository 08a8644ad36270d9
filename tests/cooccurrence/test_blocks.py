"""Counts on disk are those in memory, and what they take is said before."""

import numpy as np
import pytest

from recsys.config import Runtime
from recsys.cooccurrence import (
    WeightingConfig,
    Window,
    count_cooccurrence,
    keep_top_k,
    open_blocks,
    save_cooccurrence,
    weight,
)
from recsys.cooccurrence.counter import make_counter
from recsys.cooccurrence.plan import HEAD_BYTES
from recsys.cooccurrence.rows import BLOCK_ENTRIES
from recsys.cooccurrence.sizes import Forecast, budget_within, parse_bytes
from recsys.errors import BundleError, ConfigError

ONE = Runtime(threads=1)
WINDOWS = [None, Window(size=2), Window(size=4, direction="forward", decay="linear")]
IDS = ["sets", "window", "decayed"]


@pytest.mark.parametrize("window", WINDOWS, ids=IDS)
def test_blocks_hold_the_matrix(crowd, tmp_path, window, assert_same):
    expected = count_cooccurrence(crowd, window=window)
    # So little memory that there are many blocks.
    blocks = count_cooccurrence(
        crowd, window=window, folder=tmp_path / "counts", memory_limit="2MB", runtime=ONE
    )
    assert len(blocks.parts) > 1
    loaded = open_blocks(tmp_path / "counts").load()
    assert_same(loaded.matrix, expected.matrix)
    assert loaded.item_counts.tolist() == expected.item_counts.tolist()
    assert loaded.items == expected.items
    for name in ("n_users", "min_rating", "window", "is_weighted"):
        assert getattr(loaded, name) == getattr(expected, name)
    for found, sums in zip(blocks.marginals(), expected.marginals(), strict=True):
        assert np.array_equal(found, sums)
    assert blocks.n_entries == expected.matrix.nnz
    assert blocks.n_items == expected.n_items


@pytest.mark.parametrize("window", WINDOWS, ids=IDS)
def test_blocks_are_weighted_one_by_one(crowd, tmp_path, window, assert_same):
    config = WeightingConfig(name="ppmi", min_count=0.5)
    expected = weight(count_cooccurrence(crowd, window=window), config)
    blocks = count_cooccurrence(
        crowd, window=window, folder=tmp_path / "counts", memory_limit="2MB", runtime=ONE
    )
    rows = [block.matrix.toarray() for block in blocks.weighted(config)]
    assert np.array_equal(np.concatenate(rows), expected.toarray())
    assert_same(blocks.neighbours(5, config), keep_top_k(expected, 5))


def test_weighted_users_on_disk(crowd, tmp_path, assert_same):
    weights = np.arange(crowd.n_users) + 2**40
    expected = count_cooccurrence(crowd, user_weights=weights)
    blocks = count_cooccurrence(crowd, user_weights=weights, folder=tmp_path / "counts")
    assert_same(blocks.load().matrix, expected.matrix)


def test_a_damaged_block_is_noticed(crowd, tmp_path):
    blocks = count_cooccurrence(crowd, folder=tmp_path / "counts")
    part = blocks.folder / blocks.parts[0]
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(BundleError, match="does not match its SHA-256"):
        open_blocks(tmp_path / "counts")


def test_another_folder_is_no_counts(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": "soup", "files": {}}')
    with pytest.raises(BundleError, match="holds 'soup', not 'recsys co-occurrence blocks"):
        open_blocks(tmp_path)


def test_a_failed_count_leaves_the_old_one(crowd, tmp_path, monkeypatch):
    count_cooccurrence(crowd, folder=tmp_path / "counts")
    before = sorted(path.name for path in (tmp_path / "counts").iterdir())
    monkeypatch.setattr("recsys.cooccurrence.block_files.write_block", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        count_cooccurrence(crowd, folder=tmp_path / "counts")
    assert sorted(path.name for path in (tmp_path / "counts").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["counts"]


def test_what_it_takes_is_said_beforehand(crowd, tmp_path):
    said = []
    blocks = count_cooccurrence(crowd, folder=tmp_path / "counts", notify=said.append)
    assert len(said) == 1
    assert said[0].startswith("co-occurrence: about ")
    assert "of disk" in said[0]
    expected = make_counter(crowd, None).forecast()
    assert expected.entries == pytest.approx(blocks.n_entries, rel=0.15)
    on_disk = sum(path.stat().st_size for path in blocks.folder.glob("rows-*"))
    # Columns and counts both fit two bytes or less.
    assert on_disk <= expected.disk_bytes * 1.15


def test_a_forecast_reads_well():
    assert str(Forecast(1_000, 2_000, 3_000_000, 4_500_000_000)) == (
        "about 1,000 entries; counting takes up to 2 KB of memory beside the interactions; the "
        "result takes about 3 MB of memory, or about 4.5 GB of disk"
    )


def test_where_memory_does_not_do_a_folder_is_asked_for(crowd):
    with pytest.raises(ConfigError, match="more than memory_limit, 2 MB: give a folder"):
        count_cooccurrence(crowd, memory_limit="2MB", runtime=ONE)


def test_a_limit_that_cannot_be_kept_is_refused(crowd, tmp_path):
    with pytest.raises(ConfigError, match=r"counting takes at least .* more than memory_limit"):
        count_cooccurrence(crowd, memory_limit="100KB", folder=tmp_path / "counts")


def test_a_limit_that_is_enough_changes_nothing(crowd, assert_same):
    matrix = count_cooccurrence(crowd, memory_limit="2GB").matrix
    assert_same(matrix, count_cooccurrence(crowd).matrix)


def test_memory_left_goes_to_blocks_and_bits():
    assert budget_within(None, 10**12, 10**6, 64).head_bytes == HEAD_BYTES
    rich = budget_within(10**10, 10**9, 50_000, 2)
    assert (rich.head_bytes, rich.block_entries) == (HEAD_BYTES, BLOCK_ENTRIES)
    poor = budget_within(5 * 10**8, 4 * 10**8, 50_000, 2)
    assert 50_000 <= poor.block_entries < BLOCK_ENTRIES
    assert 0 <= poor.head_bytes < 10**8


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), (" 1.5 mb ", 1_500_000), ("17", 17), (17, 17)]
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "2 GiB", "-1", ""])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="is no size in bytes: give a number, or one like '2GB'"):
        parse_bytes(text)


def test_counts_in_memory_are_saved_as_they_are(crowd, tmp_path, assert_same):
    for number, window in enumerate((None, Window(size=2))):
        counts = count_cooccurrence(crowd, window=window)
        save_cooccurrence(counts, tmp_path / str(number))
        loaded = open_blocks(tmp_path / str(number)).load()
        assert_same(loaded.matrix, counts.matrix)
        for name in ("n_users", "min_rating", "window", "is_weighted", "items"):
            assert getattr(loaded, name) == getattr(counts, name)
        assert loaded.item_counts.tolist() == counts.item_counts.tolist()


def test_decayed_counts_in_memory_are_not_saved(crowd, tmp_path):
    with pytest.raises(ConfigError, match="decayed"):
        save_cooccurrence(
            count_cooccurrence(crowd, window=Window(decay="linear")), tmp_path / "counts"
        )
    assert not list(tmp_path.iterdir())
