"""Counts within windows equal those of a loop over pairs of events."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence import Window, count_cooccurrence
from recsys.data import Interactions, read_ratings
from recsys.data.interactions import lengths_to_offsets
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary

DAY = 86_400


def log_of(histories, times=None):
    """Interactions from lists of items, duplicates allowed."""
    lengths = [len(history) for history in histories]
    items = np.concatenate([np.array(history, np.int32) for history in histories])
    return Interactions(
        user_index=np.repeat(np.arange(len(histories), dtype=np.int32), lengths),
        item_index=items,
        rating=None,
        timestamp=None if times is None else np.concatenate(times).astype(np.int64),
        user_offsets=lengths_to_offsets(np.array(lengths)),
        users=Vocabulary(np.arange(len(histories))),
        items=Vocabulary(np.arange(5)),
        catalogue=pd.DataFrame(),
    )


def count(histories, times=None, **window):
    return count_cooccurrence(log_of(histories, times), window=Window(**window)).matrix.toarray()


def count_by_loops(histories, times, window):
    """Sum over the pairs of events, each weight a multiple of 2⁻²⁰."""
    counts = np.zeros((5, 5))
    for user, history in enumerate(histories):
        best = np.zeros((5, 5))
        for p, a in enumerate(history):
            for q, b in enumerate(history):
                distance = abs(q - p)
                is_counted = p != q if window.direction == "symmetric" else p < q
                if not is_counted or distance > window.size or a == b:
                    continue
                weight = {
                    "none": 1.0,
                    "harmonic": 1 / distance,
                    "linear": (window.size + 1 - distance) / window.size,
                }[window.decay]
                if window.is_decayed:
                    weight = np.rint(weight * 2**20)
                    if window.half_life_days is not None:
                        gap = abs(times[user][q] - times[user][p]) / DAY
                        weight = np.rint(weight * 2.0 ** -(gap / window.half_life_days))
                    weight /= 2**20
                if window.repeats == "count_events":
                    counts[a, b] += weight
                best[a, b] = max(best[a, b], weight)
        if window.repeats == "count_users":
            counts += best
    return counts


windows = st.builds(
    Window,
    size=st.integers(1, 6),
    direction=st.sampled_from(["symmetric", "forward"]),
    repeats=st.sampled_from(["count_events", "count_users"]),
    decay=st.sampled_from(["none", "harmonic", "linear"]),
    half_life_days=st.sampled_from([None, 0.5, 3.0]),
)
events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2 * DAY)), min_size=1, max_size=8)


@given(histories=st.lists(events, min_size=1, max_size=4), window=windows)
def test_counts_equal_a_loop_over_pairs_of_events(histories, window):
    items = [[item for item, _ in history] for history in histories]
    times = [np.cumsum([gap for _, gap in history]) for history in histories]
    counts = count_cooccurrence(log_of(items, times), window=window)
    expected = count_by_loops(items, times, window)
    assert counts.matrix.toarray().tolist() == expected.tolist()
    assert counts.matrix.dtype == (np.float64 if window.is_decayed else np.int64)
    assert (counts.matrix.data > 0).all()
    assert counts.is_symmetric == (window.direction == "symmetric")
    if counts.is_symmetric:
        assert (expected == expected.T).all()


def test_only_pairs_within_the_window_count():
    assert count([[0, 1, 2, 3]], size=1).tolist() == [
        [0, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [0, 1, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_forward_counts_one_direction():
    found = count([[0, 1, 2], [2, 0]], size=2, direction="forward")
    assert found[:3, :3].tolist() == [[0, 1, 1], [0, 0, 1], [1, 0, 0]]


def test_repeats_count_events_or_users():
    # 0 at 0 and 2, 1 at 1 and 3: three pairs at distance 1, one at 3.
    history = [[0, 1, 0, 1]]
    assert count(history, size=3)[0, 1] == 4
    assert count(history, size=1)[0, 1] == 3
    assert count(history, size=3, direction="forward")[:2, :2].tolist() == [[0, 3], [1, 0]]
    assert count(history, size=3, repeats="count_users")[0, 1] == 1
    assert count(history * 2, size=3, repeats="count_users")[0, 1] == 2
    best = count([[0, 3, 3, 1, 4, 0]], size=5, repeats="count_users", decay="harmonic")
    assert best[0, 1] == 1 / 2, "the nearest of the pairs at distances 3 and 2"


def test_decay_by_distance():
    harmonic = count([[0, 1, 2, 3]], size=4, decay="harmonic")[0]
    np.testing.assert_allclose(harmonic, [0, 1, 1 / 2, 1 / 3, 0], atol=2**-20)
    linear = count([[0, 1, 2, 3]], size=4, decay="linear")[0]
    assert linear.tolist() == [0, 1, 3 / 4, 2 / 4, 0]


def test_decay_by_time():
    found = count([[0, 1, 2]], [np.array([0, DAY, 3 * DAY])], size=2, half_life_days=1)
    assert found[0, :3].tolist() == [0, 1 / 2, 1 / 8]


def test_decay_by_time_needs_timestamps():
    with pytest.raises(DataError, match="half_life_days needs timestamps"):
        count([[0, 1]], half_life_days=1)


def test_only_positive_interactions_take_up_positions(small_log):
    # Positives of user 1: 10 20 30, in this order; of user 2: 20 10; of user 3: 10.
    counts = count_cooccurrence(read_ratings(small_log), 4.0, window=Window(size=1))
    assert counts.matrix.toarray()[:3, :3].tolist() == [[0, 2, 0], [2, 0, 1], [0, 1, 0]]
    assert counts.item_counts.tolist() == [3, 2, 1, 0, 0], "users of each item"


def test_marginals_count_pairs():
    counts = count_cooccurrence(log_of([[0, 1, 2]]), window=Window(size=1, direction="forward"))
    rows, columns, total, _ = counts.marginals()
    assert rows.tolist() == [1, 1, 0, 0, 0]
    assert columns.tolist() == [0, 1, 1, 0, 0]
    assert total == 2


def test_a_window_as_wide_as_the_histories_counts_sets(skewed, count_by_product):
    counts = count_cooccurrence(skewed, window=Window(size=1000)).matrix
    assert (counts != count_by_product(skewed)).nnz == 0
