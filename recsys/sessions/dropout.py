"""Dropout whose mask is one for all steps of a sequence (Gal & Ghahramani 2016).

Shapes: B batch, L steps, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lock_dropout(x_BLD: Tensor, rate: float) -> Tensor:
    """Hide a share of each sequence's features, the same ones at every step."""
    return x_BLD * keep(x_BLD[:, :1], rate) if rate else x_BLD


def keep(like: Tensor, rate: float) -> Tensor:
    """Zero with probability `rate`, else 1 / (1 − rate), so that the mean stays one."""
    return (torch.rand_like(like) >= rate).to(like.dtype) / (1.0 - rate)
