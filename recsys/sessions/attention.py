"""Attention of each state over the states before it.

A recurrent state forgets; the states themselves can be kept, and asked (Bahdanau et al. 2015;
Daniluk et al. 2017, "Frustratingly short attention spans").

Shapes: B batch, L steps, P remembered steps, H hidden, D embedding, K key.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.sessions.config import KEY_DIM


class PastAttention(nn.Module):
    """Each state asks the latest states, itself included, and adds what it finds.

    At first that is nothing, so that training begins as without attention.

    Args:
        hidden_dim: size of the states.
        output_dim: size of what is added.
        window: how many states, at most, are asked; no more are kept.
    """

    def __init__(self, hidden_dim: int, output_dim: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.query = nn.Linear(hidden_dim, KEY_DIM)
        self.key = nn.Linear(hidden_dim, KEY_DIM)
        self.value = nn.Linear(hidden_dim, output_dim)
        self.start_silent()

    @torch.no_grad()
    def start_silent(self) -> None:
        """Let nothing be found."""
        self.value.weight.zero_()
        self.value.bias.zero_()

    def forward(self, states_BLH: Tensor, past_BPH: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the states find, [B, L, D], and the states to keep for the next steps.

        Args:
            states_BLH: the new states.
            past_BPH: those kept from the steps before; None at the start of a sequence.
        """
        n_new = states_BLH.shape[1]
        known_BTH = states_BLH if past_BPH is None else torch.cat([past_BPH, states_BLH], dim=1)
        n_known = known_BTH.shape[1]
        own_L1 = torch.arange(n_known - n_new, n_known, device=states_BLH.device)[:, None]
        distance_LT = own_L1 - torch.arange(n_known, device=states_BLH.device)
        found_BLD = nn.functional.scaled_dot_product_attention(
            self.query(states_BLH),
            self.key(known_BTH),
            self.value(known_BTH),
            attn_mask=(distance_LT >= 0) & (distance_LT < self.window),
        )
        keep = self.window - 1
        return found_BLD, known_BTH[:, max(n_known - keep, 0) :]
