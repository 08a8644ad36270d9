"""The compiled loops equal scipy's product, sorting and searching."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import Runtime, available_threads
from recsys.cooccurrence import count_cooccurrence
from recsys.cooccurrence.counters import set_counter, sort_unique
from recsys.cooccurrence.kernels import row_costs, transpose
from recsys.cooccurrence.matrix import CsrBuffers, RaggedArray, RowBlock
from recsys.cooccurrence.planner import CountPlan, plan_count, positive_events, split_rows
from recsys.data import read_ratings
from recsys.errors import ConfigError

# Both are more than one word of the summary covers, 64 × 64; the second exceeds 16 bits.
N_VALUES = st.sampled_from([9_000, 70_000])
threads = st.integers(1, 4)
histories = st.lists(st.lists(st.integers(0, 20) | st.integers(0, 8_999), max_size=12), max_size=8)


def ragged(rows):
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return RaggedArray(offsets, np.array([value for row in rows for value in row], np.int32))


def rows_of(array):
    parts = np.split(array.values, array.offsets[1:-1])
    return [part.tolist() for part in parts][: len(array.offsets) - 1]


@given(histories, N_VALUES, threads)
def test_rows_are_sorted_without_duplicates(rows, n_values, threads):
    rows = [[*row, n_values - 1] for row in rows]
    found = sort_unique(ragged(rows), n_values, threads)
    assert rows_of(found) == [sorted(set(row)) for row in rows]
    _, values = found
    assert values.dtype == (np.uint16 if n_values == 9_000 else np.int32)


@given(histories)
def test_the_transpose_lists_the_rows_with_each_value(rows):
    rows = [sorted(set(row)) for row in rows]
    expected = [[] for _ in range(9_000)]
    for number, row in enumerate(rows):
        for value in row:
            expected[value].append(number)
    offsets = np.cumsum([0, *map(len, expected)])
    found = RaggedArray(offsets, transpose(ragged(rows), offsets))
    assert rows_of(found) == expected


@given(histories)
def test_row_costs_equal_a_loop_over_pairs(rows):
    rows = [sorted(set(row)) for row in rows]
    expected = np.zeros(9_000, int)
    for row in rows:
        for value in row:
            expected[value] += sum(other != value for other in row)
    assert row_costs(ragged(rows), 9_000).tolist() == expected.tolist()


def sets_of(interactions):
    return set_counter(positive_events(interactions, None).histories, interactions.n_items)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sparse_row", [0, 6, 10**9], ids=["sparse", "both", "dense"])
def test_counts_equal_the_product(
    skewed, threads, sparse_row, monkeypatch, count_by_product, assert_equal
):
    monkeypatch.setattr("recsys.cooccurrence.counters._SPARSE_ROW", sparse_row)
    plan = plan_count(skewed, None, runtime=Runtime(threads=threads))
    plan = CountPlan(plan.counter, plan.metadata, threads, block_entries=1000, fixed_bytes=0)
    assert_equal(plan.matrix(), count_by_product(skewed))


def test_indices_have_32_bits_if_they_suffice(skewed):
    matrix = count_cooccurrence(skewed).matrix
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32


def test_a_row_may_be_longer_than_a_block(skewed, count_by_product, assert_equal):
    plan = plan_count(skewed, None, runtime=Runtime(threads=1))
    plan = CountPlan(plan.counter, plan.metadata, 1, block_entries=1, fixed_bytes=0)
    assert len(list(plan.map_blocks(RowBlock.copy))) >= 690  # rows without entries share a block
    assert_equal(plan.matrix(), count_by_product(skewed))


def test_a_user_with_30000_items():
    long = pd.DataFrame({"user_id": "long", "item_id": np.arange(30_000)})
    short = pd.DataFrame({"user_id": "short", "item_id": [5, 29_999]})
    counter = sets_of(read_ratings(pd.concat([long, short])))
    buffers = CsrBuffers(
        np.zeros(3, np.int64), np.zeros(2 * 29_999, np.int32), np.zeros(2 * 29_999, np.int32)
    )
    counter.count_rows(5, 7, buffers)  # all of X has 900 million entries
    assert buffers.offsets.tolist() == [0, 29_999, 2 * 29_999]
    for row, item in enumerate([5, 6]):
        part = slice(*buffers.offsets[row : row + 2])
        columns = buffers.columns[part]
        assert np.array_equal(columns, np.delete(np.arange(30_000), item))
        expected = np.where((item == 5) & (columns == 29_999), 2, 1)
        assert np.array_equal(buffers.counts[part], expected)


def test_several_threads_may_count_at_once(skewed, count_by_product, assert_equal):
    expected = count_by_product(skewed)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(
            lambda threads: count_cooccurrence(skewed, runtime=Runtime(threads=threads)).matrix,
            [1, 2, 3, 2],
        )
        for matrix in found:
            assert_equal(matrix, expected)


def test_an_error_in_a_thread_is_raised(skewed):
    def fail(block):
        raise ValueError(f"block at {block.start}")

    plan = plan_count(skewed, None)
    plan = CountPlan(plan.counter, plan.metadata, threads=2, block_entries=1000, fixed_bytes=0)
    with pytest.raises(ValueError, match="block at 0"):
        list(plan.map_blocks(fail))


def test_threads_come_from_the_runtime_or_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available_threads(Runtime(threads=2)) == 2
    assert available_threads(Runtime()) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert available_threads() == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert available_threads() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(ConfigError, match="OMP_NUM_THREADS is 'many'"):
        available_threads()


def test_rows_are_split_at_their_bounds():
    assert split_rows(np.array([5, 5, 5]), 10) == [(0, 2), (2, 3)]
    assert split_rows(np.array([50]), 10) == [(0, 1)]
    assert split_rows(np.array([3, 3, 9, 1, 1]), 6) == [(0, 2), (2, 3), (3, 5)]
    assert split_rows(np.zeros(0, int), 10) == []


def test_numba_is_imported_only_to_count():
    code = (
        "import sys, recsys, recsys.cooccurrence; recsys.count_cooccurrence; "
        "print('numba' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
