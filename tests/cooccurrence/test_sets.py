"""Every way to count rows gives what scipy's product gives."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from recsys.config import Runtime, available_threads
from recsys.cooccurrence import count_cooccurrence, map_pairs, plan
from recsys.cooccurrence.positives import Lists, likes_of
from recsys.cooccurrence.rows import RowBlock, cut, map_blocks, stack
from recsys.cooccurrence.sets import SetRows
from recsys.cooccurrence.vertical import pack_bits, room_for, sum_bits
from recsys.data import read_ratings
from recsys.errors import ConfigError


def lists_of(matrix):
    return Lists(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32))


@pytest.fixture
def ways(monkeypatch):
    """Take a way to count by making the others dear."""

    def take(way):
        free, dear = 0.0, 1e12
        steps = ("_LIKE", "_USER", "_ADD", "_WORD", "_FAR_WORD", "_PLANE")
        for step in steps if way != "chosen" else ():
            cost = {"gather": free, "bits": dear}[way] if step == "_LIKE" else 1.0
            monkeypatch.setattr(plan, step, cost)

    return take


@pytest.mark.parametrize("lower", [False, True], ids=["full", "lower"])
@pytest.mark.parametrize("head_size", [64, 200, 700])
@pytest.mark.parametrize("way", ["gather", "bits", "chosen"])
def test_counts_are_those_of_the_product(
    crowd, way, head_size, lower, ways, monkeypatch, count_by_product, assert_same
):
    ways(way)
    monkeypatch.setattr(plan, "HEAD_SIZES", (head_size,))
    rows = SetRows(likes_of(crowd, None).positives(), lower=lower)
    if way != "chosen":
        assert (rows.head_bytes > 0) == (way == "bits")
    blocks = map_blocks(rows, RowBlock.copy, threads=2, entries=1000)
    expected = count_by_product(crowd)
    assert_same(stack(blocks, rows), sp.tril(expected, format="csr") if lower else expected)


def test_indices_have_32_bits_where_they_do(crowd):
    matrix = count_cooccurrence(crowd).matrix
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32


def test_a_row_may_be_longer_than_a_block(crowd, count_by_product, assert_same):
    rows = SetRows(likes_of(crowd, None).positives())
    blocks = list(map_blocks(rows, RowBlock.copy, threads=1, entries=1))
    assert len(blocks) >= 690  # rows without entries share a block
    assert_same(stack(blocks, rows), count_by_product(crowd))


@pytest.mark.parametrize("n_users", [0, 1, 7, 8, 9, 15, 16, 24, 100, 128, 1000])
@pytest.mark.parametrize("n_lines", [1, 2])
@pytest.mark.parametrize("threads", [1, 3])
def test_bits_are_summed_column_by_column(n_users, n_lines, threads):
    rng = np.random.default_rng(n_users)
    likes = sp.random_array((1000, 800), density=0.3, rng=rng, format="csr")
    head = np.sort(rng.choice(800, 700, replace=False)).astype(np.int32)
    users = np.sort(rng.choice(1000, n_users, replace=False)).astype(np.int32)
    bits = pack_bits(lists_of(likes), head, 800, threads)
    sums = np.full(n_lines * 512, -1, np.int32)
    used_before = np.full_like(room_for(1000, n_lines * 8), 7)
    sum_bits(users, bits, sums, used_before)
    expected = np.zeros(2 * 512, int)
    expected[:700] = (likes.toarray()[users] != 0).sum(axis=0)[head]
    assert sums.tolist() == expected[: n_lines * 512].tolist()


def audiences_of(n_users, meets):
    return plan.Audiences(n_users, meets, meets, np.full(len(meets), len(meets) - 1))


def test_the_head_is_what_costs_most_to_gather_and_keeps_to_its_memory():
    n_users = np.array([500_000] * 600 + [10] * 1000)
    audiences = audiences_of(n_users, n_users * 100)
    head = plan.choose_head(audiences, n_users=1_000_000, max_bytes=10**9)
    assert len(head) == 1024
    assert set(range(600)) < set(head.tolist())
    small = plan.choose_head(audiences, n_users=1_000_000, max_bytes=512 * 10**6 // 8)
    assert len(small) == 512
    assert not len(plan.choose_head(audiences, n_users=1_000_000, max_bytes=1000))


def test_for_few_likes_bits_are_not_worth_their_while():
    audiences = audiences_of(np.full(2000, 2), np.full(2000, 10))
    assert not len(plan.choose_head(audiences, n_users=400, max_bytes=10**9))


def test_a_user_with_30000_items():
    log = pd.DataFrame({"user_id": "greedy", "item_id": np.arange(30_000)})
    other = pd.DataFrame({"user_id": "modest", "item_id": [5, 29_999]})
    rows = SetRows(likes_of(read_ratings(pd.concat([log, other])), None).positives())
    offsets, columns = np.zeros(3, np.int64), np.zeros(2 * 29_999, np.int32)
    counts = np.zeros(2 * 29_999, np.int32)
    rows.fill(5, 7, offsets, columns, counts)  # all of X has 900 million entries
    assert offsets.tolist() == [0, 29_999, 2 * 29_999]
    for row, item in enumerate([5, 6]):
        others = columns[offsets[row] : offsets[row + 1]]
        assert np.array_equal(others, np.delete(np.arange(30_000), item))
        expected = np.where((item == 5) & (others == 29_999), 2, 1)
        assert np.array_equal(counts[offsets[row] : offsets[row + 1]], expected)


def test_each_pair_comes_once(crowd, count_by_product):
    expected = sp.triu(count_by_product(crowd)).tocoo()
    counts = {}
    for items, others, together in map_pairs(crowd, lambda block: block.pairs()):
        for item, other, count in zip(items, others, together, strict=True):
            assert counts.setdefault((min(item, other), max(item, other)), count) is count
    found = zip(*(axis.tolist() for axis in expected.coords), strict=True)
    assert counts == dict(zip(found, expected.data.tolist(), strict=True))


def test_several_threads_may_count_at_once(crowd, count_by_product, assert_same):
    expected = count_by_product(crowd)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(
            lambda threads: count_cooccurrence(crowd, runtime=Runtime(threads=threads)).matrix,
            [1, 2, 3, 2],
        )
        for matrix in found:
            assert_same(matrix, expected)


def test_an_error_in_a_thread_is_raised(crowd):
    rows = SetRows(likes_of(crowd, None).positives())

    def fail(block):
        raise ValueError(f"block at {block.start}")

    with pytest.raises(ValueError, match="block at 0"):
        list(map_blocks(rows, fail, threads=2, entries=1000))


def test_threads_are_those_of_the_runtime_or_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available_threads(Runtime(threads=2)) == 2
    assert available_threads(Runtime()) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert available_threads() == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert available_threads() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(ConfigError, match="OMP_NUM_THREADS is 'many': it must be a number"):
        available_threads()


def test_blocks_are_cut_at_their_bounds():
    assert cut(np.array([5, 5, 5]), 10) == [(0, 2), (2, 3)]
    assert cut(np.array([50]), 10) == [(0, 1)]
    assert cut(np.zeros(0, int), 10) == []


def test_numba_is_imported_only_to_count():
    code = (
        "import sys, recsys, recsys.cooccurrence; recsys.count_cooccurrence; "
        "print('numba' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
