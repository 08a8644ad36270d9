"""The way from the latest watches to the answer that passes by the recurrent layers.

What often follows what, and what has been watched of late, need not pass through the state.

Shapes: B batch, L steps, D embedding, K half-lives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.sessions.dropout import lock_dropout


class Shortcut(nn.Module):
    """A linear map of the latest input, and of means of the inputs so far that fade with them.

    m_t = d m_{t−1} + (1 − d) x_t with d = 2^(−1 / half-life), from m_0 = 0: exponential moving
    averages, as in "Mega" (Ma et al. 2023), with decays that are fixed. A map that is new
    adds nothing.

    It has D² parameters for each mean and nothing between them and the answer, so that it learns
    pairs of items by heart before anything else does: hence its own dropout.

    Args:
        dim: size of what comes in and goes out.
        half_lives: after how many watches one counts half, for each mean.
        dropout: share of each sequence's features that are hidden while it learns.
    """

    decay: Tensor

    def __init__(self, dim: int, half_lives: Sequence[float], dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.zeros(dim, (1 + len(half_lives)) * dim))
        decay = 0.5 ** (1.0 / torch.tensor(half_lives, dtype=torch.float64))
        self.register_buffer("decay", decay.float(), persistent=False)  # [K]

    def forward(self, input_BLD: Tensor, before_BKD: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is added at each step, [B, L, D], and the means after the last, [B, K, D].

        Args:
            input_BLD: the new inputs.
            before_BKD: the means before them; None at the start of a sequence.
        """
        n_steps = input_BLD.shape[1]
        means_BKLD = self._kernel(n_steps) @ input_BLD[:, None].float()
        if before_BKD is not None:
            steps_L = torch.arange(1, n_steps + 1, device=input_BLD.device)
            means_BKLD = means_BKLD + (
                self.decay[:, None, None] ** steps_L[:, None] * before_BKD[:, :, None]
            )
        parts = [input_BLD, *means_BKLD.to(input_BLD.dtype).unbind(1)]
        features_BLF = torch.cat(parts, dim=2)
        if self.training:
            features_BLF = lock_dropout(features_BLF, self.dropout)
        added_BLD = nn.functional.linear(features_BLF, self.weight)
        return added_BLD, means_BKLD[:, :, -1]

    def _kernel(self, n_steps: int) -> Tensor:
        """What each input weighs in the mean at each step, [K, L, L]."""
        steps_L = torch.arange(n_steps, device=self.decay.device)
        ago_LL = steps_L[:, None] - steps_L
        decay_K11 = self.decay[:, None, None]
        return torch.where(ago_LL >= 0, (1.0 - decay_K11) * decay_K11 ** ago_LL.clamp(min=0), 0.0)
