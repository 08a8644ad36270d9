import numpy as np
import pytest
import torch

from recsys.sessions.seen import Seen

N_ITEMS = 20
SEEN = Seen(
    earlier=torch.tensor([[9, 9], [3, 8], [15, 0]]),
    inputs=torch.tensor([[9, 1, 4], [5, 6, N_ITEMS], [2, 7, 11]]),
    row=torch.tensor([0, 0, 0, 1, 1, 2]),
    step=torch.tensor([0, 1, 2, 0, 1, 2]),
)
"""Three stretches; the second ends a step early, and of the third only the last step counts."""

BY_HAND = [{9}, {9, 1}, {9, 1, 4}, {3, 8, 5}, {3, 8, 5, 6}, {15, 0, 2, 7, 11}]


@pytest.mark.parametrize("rows", [1, 2, 4, 6])
def test_each_prediction_has_seen_what_came_before_it(rows):
    found = []
    for start in range(0, 6, rows):
        found += [{*np.flatnonzero(row)} for row in SEEN.mask(slice(start, start + rows), N_ITEMS)]
    assert found == BY_HAND


def test_the_seen_are_found_among_the_drawn():
    drawn = torch.tensor([1, 5, 8, 9, 15, 19])
    among = SEEN.among(drawn)
    assert [{*drawn[row].tolist()} for row in among] == [s & {*drawn.tolist()} for s in BY_HAND]
