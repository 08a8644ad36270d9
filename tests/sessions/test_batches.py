from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import read_ratings
from recsys.sessions.batches import by_length, cut_stretches, fill, pad, training_batches


def log_of(lengths):
    """Users with histories of the given lengths; every watch of every user is another item."""
    rows = [(user, 1000 * user + i) for user, n in enumerate(lengths) for i in range(n)]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))


histories = st.lists(st.integers(1, 30), min_size=1, max_size=8)


@given(lengths=histories, max_length=st.integers(1, 12), seed=st.integers(0, 99))
def test_each_watch_but_the_first_is_predicted_once_from_its_predecessor(lengths, max_length, seed):
    log = log_of(lengths)
    cuts = cut_stretches(log, max_length, np.random.default_rng(seed))
    predicted = Counter()
    for start, stop in zip(cuts.start, cuts.stop, strict=True):
        assert 2 <= stop - start <= max_length + 1
        assert len(set(log.user_index[start:stop])) == 1
        predicted.update(range(start + 1, stop))
    firsts = set(log.user_offsets[:-1].tolist())
    assert predicted == Counter(row for row in range(len(log)) if row not in firsts)


def test_long_histories_are_cut_at_other_places_each_time():
    log = log_of([50])
    rng = np.random.default_rng(0)
    cuts = {tuple(cut_stretches(log, 10, rng).start.tolist()) for _ in range(20)}
    assert len(cuts) > 3


@given(lengths=histories, batch_size=st.integers(1, 5))
def test_batches_hold_the_same_watches_as_the_log(lengths, batch_size):
    log = log_of(lengths)
    batches = training_batches(log, 7, batch_size, np.random.default_rng(0))
    targets = Counter()
    for batch in (fill(log, stretches) for stretches in batches):
        assert len(batch.items) <= batch_size
        assert (batch.items[:, 0] != log.n_items).all(), "a row begins with a watch"
        in_batch = batch.items[:, 1:][batch.items[:, 1:] != log.n_items]
        assert len(in_batch) == batch.n_targets
        targets.update(in_batch.tolist())
    firsts = set(log.user_offsets[:-1].tolist())
    assert targets == Counter(log.item_index[row] for row in range(len(log)) if row not in firsts)


@given(lengths=histories, seed=st.integers(0, 99))
def test_what_was_watched_before_a_stretch_comes_with_it(lengths, seed):
    log = log_of(lengths)
    for stretches in training_batches(log, 7, 4, np.random.default_rng(seed)):
        batch = fill(log, stretches)
        for items, earlier, start in zip(batch.items, batch.earlier, stretches.start, strict=True):
            history = slice(log.user_offsets[log.user_index[start]], start)
            assert {*earlier} - {items[0]} == {*log.item_index[history]}


def test_padding_stands_at_the_end():
    histories = [np.array([5], np.int32), np.array([1, 2, 3], np.int32)]
    assert pad(histories, pad_index=9).tolist() == [[5, 9, 9], [1, 2, 3]]


def test_batch_size_follows_the_size_of_the_data():
    small = training_batches(log_of([11] * 40), 10, None, np.random.default_rng(0))
    assert [len(batch) for batch in small] == [8] * 5


@pytest.mark.parametrize("batch_size", [1, 2, 10])
def test_by_length_gives_each_history_once_and_only_its_latest_watches(batch_size):
    histories = [np.arange(n, dtype=np.int32) for n in (3, 1, 7, 2)]
    seen = {}
    for rows, recent in by_length(histories, max_length=4, batch_size=batch_size):
        seen |= dict(zip(rows.tolist(), (history.tolist() for history in recent), strict=True))
    assert seen == {0: [0, 1, 2], 1: [0], 2: [3, 4, 5, 6], 3: [0, 1]}
