"""Histories as a matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.baselines.base import Recency, history_matrix


@pytest.mark.parametrize(
    ("histories", "expected"),
    [
        ([[2, 0], [1]], [[1, 0, 1], [0, 1, 0]]),
        ([[2, 2, 2]], [[0, 0, 1]]),  # repetitions count once
        ([[], [1]], [[0, 0, 0], [0, 1, 0]]),
        ([], []),
    ],
)
def test_history_matrix_by_hand(histories, expected):
    histories = [np.array(history, dtype=np.int32) for history in histories]
    before = [history.copy() for history in histories]
    matrix = history_matrix(histories, n_items=3)
    assert matrix.toarray().tolist() == expected
    assert matrix.shape == (len(histories), 3)
    assert matrix.dtype == np.float32
    assert all(map(np.array_equal, histories, before))


histories = st.lists(st.lists(st.integers(0, 4), max_size=8), max_size=4)


@given(
    histories=histories,
    last=st.one_of(st.none(), st.integers(1, 9)),
    decay=st.sampled_from([1.0, 0.8, 0.5]),
)
def test_weight_is_that_of_the_latest_occurrence(histories, last, decay):
    expected = np.zeros((len(histories), 5))
    for row, history in enumerate(histories):
        for age, item in enumerate(reversed(history)):
            if (last is None or age < last) and not expected[row, item]:
                expected[row, item] = decay**age
    arrays = [np.array(history, dtype=np.int32) for history in histories]
    matrix = history_matrix(arrays, 5, Recency(last=last, decay=decay))
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-6)
