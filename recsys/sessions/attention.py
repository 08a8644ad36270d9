"""Attention of each state over the states before it.

A recurrent state forgets; the states themselves can be kept, and asked (Bahdanau et al. 2015;
Daniluk et al. 2017, "Frustratingly short attention spans").

Shapes: B batch, L steps, P remembered steps, H hidden, D embedding, K key.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.sessions.config import KEY_DIM
from recsys.sessions.recurrent import pick


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

    def forward(self, states_BLH: Tensor, past_BPH: Tensor | None) -> Tensor:
        """What the states find, [B, L, D].

        Args:
            states_BLH: the new states.
            past_BPH: those kept from the steps before; None at the start of a sequence.
        """
        steps_L = torch.arange(states_BLH.shape[1], device=states_BLH.device)
        return self._ask(states_BLH, steps_L, states_BLH, past_BPH)

    def at(self, step_B: Tensor, states_BLH: Tensor, past_BPH: Tensor | None) -> Tensor:
        """The same for one state of each sequence, [B, D], without the others."""
        own_B1H = pick(states_BLH, step_B)[:, None]
        return self._ask(own_B1H, step_B[:, None], states_BLH, past_BPH)[:, 0]

    def keep(self, states_BLH: Tensor, past_BPH: Tensor | None) -> Tensor:
        """The states that the next steps will ask."""
        known_BTH = _after(past_BPH, states_BLH)
        return known_BTH[:, max(known_BTH.shape[1] - (self.window - 1), 0) :]

    def _ask(
        self, own_BSH: Tensor, steps_S: Tensor, states_BLH: Tensor, past_BPH: Tensor | None
    ) -> Tensor:
        """What chosen states find, [B, S, D]; `steps` may differ from sequence to sequence."""
        known_BTH = _after(past_BPH, states_BLH)
        n_known = known_BTH.shape[1]
        place_S1 = (n_known - states_BLH.shape[1] + steps_S)[..., None]
        distance_ST = place_S1 - torch.arange(n_known, device=steps_S.device)
        return nn.functional.scaled_dot_product_attention(
            self.query(own_BSH),
            self.key(known_BTH),
            self.value(known_BTH),
            attn_mask=(distance_ST >= 0) & (distance_ST < self.window),
        )


def _after(past_BPH: Tensor | None, states_BLH: Tensor) -> Tensor:
    return states_BLH if past_BPH is None else torch.cat([past_BPH, states_BLH], dim=1)
