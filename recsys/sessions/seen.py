"""Which items a prediction cannot be, because the user has watched them before.

What a user has watched is not watched again, and is left out of every ranking. The loss leaves it
out as well, so that the model need not spend its strength on remembering each single watch only
to rule it out. Watches before the stretch count too: otherwise the end of long histories would
teach that what everybody has watched long ago is improbable for anybody.

Shapes: B stretches, L steps, P earlier watches, M predictions, C predictions in a chunk,
U different drawn items, N items.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """What was watched before each prediction of a batch."""

    earlier: Tensor
    """Items watched before each stretch, int64 [B, P]; one may stand there more than once."""
    inputs: Tensor
    """Items of the stretches, int64 [B, L]; at step l the first l + 1 have been seen as well."""
    row: Tensor
    """The stretch of each prediction, ascending, [M]."""
    step: Tensor
    """Its step, [M]."""

    def mask(self, chunk: slice, n_items: int) -> Tensor:
        """What the predictions of a chunk have seen, bool [C, N]."""
        row_C = self.row[chunk]
        first, last = int(row_C[0]), int(row_C[-1])
        earlier_RP = self.earlier[first : last + 1]
        earlier_RN = earlier_RP.new_zeros(len(earlier_RP), n_items, dtype=torch.bool)
        seen_CN = earlier_RN.scatter_(1, earlier_RP, True)[row_C - first]
        return seen_CN.scatter_(1, self._within(chunk), True)

    def among(self, drawn_U: Tensor) -> Tensor:
        """Which of some items, ascending, each prediction has seen, bool [M, U]."""
        earlier_BU = _is_among(drawn_U, self.earlier)
        return earlier_BU[self.row] | _is_among(drawn_U, self._within(slice(None)))

    def _within(self, chunk: slice) -> Tensor:
        """What was seen in the stretch itself, [C, L], filled up with its first watch.

        inputs a b c     step 0: a a a     step 1: a b a     step 2: a b c
        """
        inputs_CL = self.inputs[self.row[chunk]]
        steps_L = torch.arange(inputs_CL.shape[1], device=inputs_CL.device)
        return torch.where(steps_L <= self.step[chunk, None], inputs_CL, inputs_CL[:, :1])


def _is_among(drawn_U: Tensor, items_MS: Tensor) -> Tensor:
    """Which of the drawn items stand in each row, bool [M, U]."""
    place_MS = torch.searchsorted(drawn_U, items_MS).clamp_(max=len(drawn_U) - 1)
    is_drawn_MS = drawn_U[place_MS] == items_MS
    # What was not drawn is marked in a column of its own, beyond the last.
    place_MS = torch.where(is_drawn_MS, place_MS, len(drawn_U))
    marks = torch.zeros(len(items_MS), len(drawn_U) + 1, dtype=torch.bool, device=items_MS.device)
    return marks.scatter_(1, place_MS, True)[:, :-1]
