import time

import numpy as np
import pytest

from recsys.evaluation import measure_latency


class Slow:
    """Takes five milliseconds, and half a second on the first call and for one long history."""

    def __init__(self):
        self.calls = 0

    def score(self, histories):
        self.calls += 1
        slow = self.calls == 1 or len(histories[0]) > 50
        time.sleep(0.5 if slow else 0.005)
        return np.zeros((len(histories), 20), dtype=np.float32)


def test_the_first_call_is_not_counted_and_a_quantile_leaves_the_odd_one_out():
    histories = [np.zeros(2, np.int32)] * 40 + [np.zeros(60, np.int32)]
    assert 5 <= measure_latency(Slow(), histories) < 250
    assert measure_latency(Slow(), histories, quantile=1.0) >= 500


def test_nothing_to_be_answered_is_an_error():
    with pytest.raises(ValueError, match="no histories"):
        measure_latency(Slow(), [])
