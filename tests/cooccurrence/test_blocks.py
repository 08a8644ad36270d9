"""Counts on disk equal those in memory, whose size is estimated in advance."""

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
from recsys.cooccurrence.planner import (
    BLOCK_ENTRIES,
    entries_per_block,
    plan_count,
)
from recsys.errors import BundleError, ConfigError
from recsys.storage import write_manifest

ONE = Runtime(threads=1)
WINDOWS = [None, Window(size=2), Window(size=4, direction="forward", decay="linear")]
IDS = ["sets", "window", "decayed"]


@pytest.mark.parametrize("window", WINDOWS, ids=IDS)
def test_blocks_contain_the_matrix(skewed, tmp_path, window, assert_equal):
    expected = count_cooccurrence(skewed, window=window)
    # A low limit, so that there are many blocks.
    blocks = count_cooccurrence(
        skewed, window=window, folder=tmp_path / "counts", memory_limit="2MB", runtime=ONE
    )
    assert len(blocks.parts) > 1
    loaded = open_blocks(tmp_path / "counts").load()
    assert_equal(loaded.matrix, expected.matrix)
    assert loaded.item_counts.tolist() == expected.item_counts.tolist()
    assert loaded.items == expected.items
    for name in ("n_users", "min_rating", "window"):
        assert getattr(loaded, name) == getattr(expected, name)
    for found, sums in zip(blocks.marginals(), expected.marginals(), strict=True):
        assert np.array_equal(found, sums)
    assert blocks.n_entries == expected.matrix.nnz
    assert blocks.n_items == expected.n_items


@pytest.mark.parametrize("window", WINDOWS, ids=IDS)
def test_blocks_are_weighted_as_they_are_read(skewed, tmp_path, window, assert_equal):
    config = WeightingConfig(name="ppmi", min_count=0.5)
    expected = weight(count_cooccurrence(skewed, window=window), config)
    blocks = count_cooccurrence(
        skewed, window=window, folder=tmp_path / "counts", memory_limit="2MB", runtime=ONE
    )
    rows = [block.matrix.toarray() for block in blocks.weighted(config)]
    assert np.array_equal(np.concatenate(rows), expected.toarray())
    assert_equal(blocks.neighbours(5, config), keep_top_k(expected, 5))


def test_a_damaged_block_is_rejected(skewed, tmp_path):
    blocks = count_cooccurrence(skewed, folder=tmp_path / "counts")
    part = blocks.folder / blocks.parts[0]
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(BundleError, match="does not match its SHA-256"):
        open_blocks(tmp_path / "counts")


def test_a_folder_of_another_format_is_rejected(tmp_path):
    write_manifest(tmp_path, format="soup")
    with pytest.raises(BundleError, match="contains 'soup', not 'recsys co-occurrence blocks"):
        open_blocks(tmp_path)


def test_a_failed_count_keeps_the_previous_one(skewed, tmp_path, monkeypatch):
    count_cooccurrence(skewed, folder=tmp_path / "counts")
    before = sorted(path.name for path in (tmp_path / "counts").iterdir())
    monkeypatch.setattr("recsys.cooccurrence.blocks.write_block", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        count_cooccurrence(skewed, folder=tmp_path / "counts")
    assert sorted(path.name for path in (tmp_path / "counts").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["counts"]


def test_the_size_is_estimated_before_counting(skewed):
    matrix = count_cooccurrence(skewed).matrix
    counting_bytes, matrix_bytes = plan_count(skewed, None).estimate()
    found = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    assert matrix_bytes == pytest.approx(found, rel=0.15)
    assert counting_bytes > plan_count(skewed, None).fixed_bytes


def test_a_matrix_over_the_limit_needs_a_folder(skewed):
    with pytest.raises(ConfigError, match=r"more than memory_limit, 2\.0 MB: pass a folder"):
        count_cooccurrence(skewed, memory_limit="2MB", runtime=ONE)


def test_a_limit_below_the_minimum_is_rejected(skewed, tmp_path):
    with pytest.raises(ConfigError, match=r"counting takes at least .* more than memory_limit"):
        count_cooccurrence(skewed, memory_limit="100KB", folder=tmp_path / "counts")


def test_a_sufficient_limit_changes_nothing(skewed, assert_equal):
    matrix = count_cooccurrence(skewed, memory_limit="2GB").matrix
    assert_equal(matrix, count_cooccurrence(skewed).matrix)


def test_blocks_shrink_to_the_memory_limit():
    assert entries_per_block(None, 10**12, 10**6, 64) == BLOCK_ENTRIES
    assert entries_per_block(10**10, 10**9, 50_000, 2) == BLOCK_ENTRIES
    entries = entries_per_block(5 * 10**8, 4 * 10**8, 50_000, 2)
    assert 50_000 <= entries < BLOCK_ENTRIES


def test_counts_in_memory_are_saved_unchanged(skewed, tmp_path, assert_equal):
    for number, window in enumerate((None, Window(size=2))):
        counts = count_cooccurrence(skewed, window=window)
        save_cooccurrence(counts, tmp_path / str(number))
        loaded = open_blocks(tmp_path / str(number)).load()
        assert_equal(loaded.matrix, counts.matrix)
        for name in ("n_users", "min_rating", "window", "items"):
            assert getattr(loaded, name) == getattr(counts, name)
        assert loaded.item_counts.tolist() == counts.item_counts.tolist()


def test_decayed_counts_in_memory_are_rejected(skewed, tmp_path):
    with pytest.raises(ConfigError, match="decayed"):
        save_cooccurrence(
            count_cooccurrence(skewed, window=Window(decay="linear")), tmp_path / "counts"
        )
    assert not list(tmp_path.iterdir())
