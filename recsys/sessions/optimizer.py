"""AdamW and its learning rate."""

from __future__ import annotations

import math

import torch

from recsys.sessions.config import SessionConfig
from recsys.sessions.network import SessionNetwork

_FINAL_RATE = 0.05
"""The learning rate at the end, over its peak."""


def new_optimizer(network: SessionNetwork) -> torch.optim.AdamW:
    """AdamW over all that is learned; matrices decay, biases and norms do not."""
    learned = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": network.config.weight_decay},
        {"params": [p for p in learned if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=network.config.learning_rate, fused=True)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: SessionConfig, step: int, progress: float
) -> None:
    """Linear warm-up, then half a cosine from the peak down to `_FINAL_RATE` of it.

    Args:
        optimizer: all its parameters get the rate.
        config: peak and warm-up.
        step: how many steps were taken.
        progress: the share of the training that is done.
    """
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    rate = config.learning_rate * warmup * (_FINAL_RATE + (1.0 - _FINAL_RATE) * cosine)
    for group in optimizer.param_groups:
        group["lr"] = rate
