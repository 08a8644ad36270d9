from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import read_ratings
from recsys.sessions.batches import (
    batches_by_length,
    chunk_sequences,
    cut_batches,
    pad,
    shard,
    training_batches,
)


def cut(interactions, batches):
    """Items and contexts of batches, as arrays, and their numbers of predictions."""
    items = torch.from_numpy(interactions.item_index)
    for *arrays, n_targets in batches and cut_batches(items, batches, interactions.n_items):
        yield *(array.numpy() for array in arrays), n_targets


def interactions_of(lengths):
    """Users with histories of the given lengths; all items are distinct."""
    rows = [(user, 1000 * user + i) for user, n in enumerate(lengths) for i in range(n)]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))


histories = st.lists(st.integers(1, 30), min_size=1, max_size=8)


@given(lengths=histories, max_length=st.integers(1, 12), seed=st.integers(0, 99))
def test_each_item_but_the_first_is_predicted_once(lengths, max_length, seed):
    interactions = interactions_of(lengths)
    cuts = chunk_sequences(interactions, max_length, np.random.default_rng(seed))
    predicted = Counter()
    for _, start, stop in cuts:
        assert 2 <= stop - start <= max_length + 1
        assert len(set(interactions.user_index[start:stop])) == 1
        predicted.update(range(start + 1, stop))
    firsts = set(interactions.user_offsets[:-1].tolist())
    assert predicted == Counter(row for row in range(len(interactions)) if row not in firsts)


def test_long_histories_are_cut_at_varying_positions():
    interactions = interactions_of([50])
    rng = np.random.default_rng(0)
    cuts = {tuple(chunk_sequences(interactions, 10, rng)[:, 1].tolist()) for _ in range(20)}
    assert len(cuts) > 3


@given(lengths=histories, batch_size=st.integers(1, 5))
def test_batches_contain_all_targets(lengths, batch_size):
    interactions = interactions_of(lengths)
    batches = training_batches(interactions, 7, batch_size, np.random.default_rng(0))
    targets = Counter()
    for items, _, n_targets in cut(interactions, batches):
        assert len(items) <= batch_size
        assert (items[:, 0] != interactions.n_items).all(), "a row starts with an item"
        in_batch = items[:, 1:][items[:, 1:] != interactions.n_items]
        assert len(in_batch) == n_targets
        targets.update(in_batch.tolist())
    firsts = set(interactions.user_offsets[:-1].tolist())
    assert targets == Counter(
        interactions.item_index[row] for row in range(len(interactions)) if row not in firsts
    )


@pytest.mark.parametrize("n_chunks", [1, 2, 5, 6])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_parts_of_a_batch_contain_each_chunk(n_chunks, world_size):
    batch = np.arange(3 * n_chunks).reshape(-1, 3)
    parts = [shard(batch, rank, world_size) for rank in range(world_size)]
    sizes = [len(part) for part in parts]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= 1
    chunks = np.concatenate(parts)
    assert len(chunks) == max(n_chunks, world_size)
    assert np.array_equal(np.unique(chunks, axis=0), batch)


@given(lengths=histories, seed=st.integers(0, 99))
def test_the_context_contains_the_items_before_a_chunk(lengths, seed):
    interactions = interactions_of(lengths)
    batches = training_batches(interactions, 7, 4, np.random.default_rng(seed))
    for chunks, (batch_items, contexts, _) in zip(batches, cut(interactions, batches), strict=True):
        for items, context, start in zip(batch_items, contexts, chunks[:, 1], strict=True):
            history = slice(interactions.user_offsets[interactions.user_index[start]], start)
            assert {*context} - {items[0]} == {*interactions.item_index[history]}


def test_padding_is_at_the_end():
    histories = [np.array([5], np.int32), np.array([1, 2, 3], np.int32)]
    assert pad(histories, pad_index=9).tolist() == [[5, 9, 9], [1, 2, 3]]


def test_batch_size_follows_the_size_of_the_data():
    small = training_batches(interactions_of([11] * 40), 10, None, np.random.default_rng(0))
    assert [len(batch) for batch in small] == [8] * 5


@pytest.mark.parametrize("batch_size", [1, 2, 10])
def test_batches_by_length_contain_the_latest_items_of_each_history_once(batch_size):
    histories = [np.arange(n, dtype=np.int32) for n in (3, 1, 7, 2)]
    found = {}
    for rows, recent in batches_by_length(histories, max_length=4, batch_size=batch_size):
        found |= dict(zip(rows.tolist(), (history.tolist() for history in recent), strict=True))
    assert found == {0: [0, 1, 2], 1: [0], 2: [3, 4, 5, 6], 3: [0, 1]}
