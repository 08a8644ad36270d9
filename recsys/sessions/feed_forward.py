"""The feed-forward block of a Transformer (Vaswani et al. 2017), at the end of the network.

A linear read-out can only say "more like this, and this"; the block can say "more like this, but
not where that is so as well". Shapes: B batch, L steps, D embedding, F inner.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeedForward(nn.Module):
    """x + contract(gelu(expand(norm(x)))), each step by itself.

    The norm stands before the block (Xiong et al. 2020). A new block adds nothing.

    Args:
        dim: size of what comes in and goes out.
        inner_dim: size in between.
    """

    def __init__(self, dim: int, inner_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, inner_dim)
        self.contract = nn.Linear(inner_dim, dim)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the parameters anew, such that the block adds nothing."""
        bound = self.expand.in_features**-0.5
        for parameter in self.expand.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """X with what the block adds, [B, L, D]."""
        inner_BLF = nn.functional.gelu(self.expand(self.norm(x_BLD)))
        added_BLD: Tensor = self.contract(inner_BLF)
        return x_BLD + added_BLD
