"""The way from the latest watches to the answer that passes by the recurrent layers.

What often follows what, and what has been watched of late, need not pass through the state.

Shapes: B batch, L steps, D embedding, K half-lives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.sessions.dropout import lock_dropout
from recsys.sessions.recurrent import pick


class Shortcut(nn.Module):
    """A linear map of the latest input, and of means of the inputs so far that fade with them.

    m_t = d m_{t−1} + (1 − d) x_t with d = 2^(−1 / half-life), from m_0 = 0: exponential moving
    averages, as in "Mega" (Ma et al. 2023), with decays that are fixed. A map that is new
    adds nothing.

    It has D² parameters for each mean and nothing between them and the answer, so that it learns
    pairs of items by heart before anything else does: hence its own dropout.

    Args:
        dim: size of what comes in and goes out.
        ema_half_lives: after how many watches one counts half, for each mean.
        dropout: share of each sequence's features that are hidden while it learns.
    """

    decay: Tensor

    def __init__(self, dim: int, ema_half_lives: Sequence[float], dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.zeros(dim, (1 + len(ema_half_lives)) * dim))
        decay = 0.5 ** (1.0 / torch.tensor(ema_half_lives, dtype=torch.float64))
        self.register_buffer("decay", decay.float(), persistent=False)  # [K]

    def forward(self, input_BLD: Tensor, before_BKD: Tensor | None) -> Tensor:
        """What is added at each step, [B, L, D].

        Args:
            input_BLD: the new inputs.
            before_BKD: the means before them; None at the start of a sequence.
        """
        n_steps = input_BLD.shape[1]
        steps_L = torch.arange(n_steps, device=input_BLD.device)
        means_BKLD = self._weights(steps_L, n_steps) @ input_BLD[:, None].float()
        if before_BKD is not None:
            means_BKLD = means_BKLD + self._left(steps_L)[:, :, None] * before_BKD[:, :, None]
        parts = [input_BLD, *means_BKLD.to(input_BLD.dtype).unbind(1)]
        features_BLF = torch.cat(parts, dim=2)
        if self.training:
            features_BLF = lock_dropout(features_BLF, self.dropout)
        return nn.functional.linear(features_BLF, self.weight)

    def at(self, step_B: Tensor, input_BLD: Tensor, before_BKD: Tensor | None) -> Tensor:
        """The same for one step of each sequence, [B, D], without the others; no dropout."""
        own_BD = pick(input_BLD, step_B)
        means_BKD = self._means_at(step_B, input_BLD, before_BKD)
        features_BF = torch.cat([own_BD, means_BKD.to(own_BD.dtype).flatten(1)], dim=1)
        return nn.functional.linear(features_BF, self.weight)

    def after(self, input_BLD: Tensor, before_BKD: Tensor | None) -> Tensor:
        """The means after the last step, [B, K, D]."""
        n_sequences, n_steps, _ = input_BLD.shape
        last_B = torch.full((n_sequences,), n_steps - 1, device=input_BLD.device)
        return self._means_at(last_B, input_BLD, before_BKD)

    def _means_at(self, step_B: Tensor, input_BLD: Tensor, before_BKD: Tensor | None) -> Tensor:
        weights_BKL = self._weights(step_B, input_BLD.shape[1]).transpose(0, 1)
        means_BKD = weights_BKL @ input_BLD.float()
        if before_BKD is not None:
            means_BKD = means_BKD + self._left(step_B).T[:, :, None] * before_BKD
        return means_BKD

    def _weights(self, steps_S: Tensor, n_inputs: int) -> Tensor:
        """What each of L inputs weighs in the means at some steps, [K, S, L]."""
        ago_SL = steps_S[:, None] - torch.arange(n_inputs, device=steps_S.device)
        decay_K11 = self.decay[:, None, None]
        return torch.where(ago_SL >= 0, (1.0 - decay_K11) * decay_K11 ** ago_SL.clamp(min=0), 0.0)

    def _left(self, steps_S: Tensor) -> Tensor:
        """What is left at some steps of the means before, [K, S]."""
        return self.decay[:, None] ** (steps_S + 1)
