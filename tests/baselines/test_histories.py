import numpy as np
import pytest

from recsys.baselines.histories import history_matrix


@pytest.mark.parametrize(
    ("histories", "expected"),
    [
        ([[2, 0], [1]], [[1, 0, 1], [0, 1, 0]]),
        ([[2, 2, 2]], [[0, 0, 1]]),  # watched often counts once
        ([[], [1]], [[0, 0, 0], [0, 1, 0]]),
        ([], []),
    ],
)
def test_a_row_has_ones_where_the_history_has_items(histories, expected):
    histories = [np.array(history, dtype=np.int32) for history in histories]
    before = [history.copy() for history in histories]
    matrix = history_matrix(histories, n_items=3)
    assert matrix.toarray().tolist() == expected
    assert matrix.shape == (len(histories), 3)
    assert matrix.dtype == np.float32
    assert all(map(np.array_equal, histories, before))
