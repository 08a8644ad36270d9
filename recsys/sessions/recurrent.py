"""Recurrent layers of any kind, and what is carried from step to step.

Shapes: B batch, L session length, P remembered steps, H hidden, K half-lives, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Hidden = tuple[Tensor, ...]
"""What a recurrent layer carries from step to step: (h,), or (h, c) of an LSTM, each [1, B, H]."""

CELLS: dict[str, Callable[..., nn.Module]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@dataclass(frozen=True, eq=False)
class Memory:
    """All that the network keeps of the steps behind it."""

    hidden: tuple[Hidden, ...]
    """Of each recurrent layer."""
    means: Tensor
    """Of the inputs, one for each half-life of the shortcut, [B, K, D]."""
    past: Tensor | None = None
    """The latest states, oldest first, where there is attention over them, [B, P, H]."""

    def rows(self, index_B: Tensor) -> Memory:
        """The memory of chosen sequences; one may be chosen several times."""
        return Memory(
            tuple(tuple(part[:, index_B] for part in hidden) for hidden in self.hidden),
            self.means[index_B],
            None if self.past is None else self.past[index_B],
        )


@dataclass(frozen=True, eq=False)
class Steps:
    """What the recurrent layers made of some steps, and what the answers need besides."""

    inputs: Tensor
    """What the first layer was given, [B, L, D]."""
    states: Tensor
    """What came out of the last, [B, L, H]."""
    means: Tensor | None
    """Of the inputs before these steps, as in `Memory`; None at the start of a sequence."""
    past: Tensor | None
    """The latest states before them, as in `Memory`."""


def run_layer(layer: nn.Module, x_BLH: Tensor, hidden: Hidden | None) -> tuple[Tensor, Hidden]:
    """A recurrent layer; torch passes a pair for the LSTM, and a bare tensor for the others."""
    if isinstance(layer, nn.LSTM):
        y_BLH, after = layer(x_BLH, hidden)
        return y_BLH, after
    y_BLH, after = layer(x_BLH, hidden[0] if hidden else None)
    return y_BLH, (after,)


def pick(x_BLF: Tensor, step_B: Tensor) -> Tensor:
    """One step of each sequence, [B, F]."""
    return x_BLF[torch.arange(x_BLF.shape[0], device=x_BLF.device), step_B]
