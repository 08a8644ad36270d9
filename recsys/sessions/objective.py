"""What training minimises: the cross-entropy of each next watch of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.sessions.config import SessionConfig
from recsys.sessions.loss import tied_cross_entropy
from recsys.sessions.network import SessionNetwork
from recsys.sessions.sampled_loss import sampled_cross_entropy

LARGE_CATALOGUE = 50_000
"""With more items than this, `softmax = "auto"` samples."""


class Objective(nn.Module):
    """A network and its loss as one module, so that data-parallel training sees all of it."""

    def __init__(self, network: SessionNetwork, config: SessionConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def forward(self, items_BL: Tensor) -> Tensor:
        """Mean loss per watch of a padded batch, every watch but the first of a row predicted."""
        network = self.network
        is_watch_BL = items_BL[:, 1:] != network.n_items
        expected_MD = network(items_BL[:, :-1])[is_watch_BL].to(network.item_bias.dtype)
        targets_M = items_BL[:, 1:][is_watch_BL]
        seen_MS = seen_before(items_BL, is_watch_BL) if self.config.exclude_seen else None
        vectors_ND = network.item_vectors.weight[:-1]
        if self.samples:
            return sampled_cross_entropy(
                expected_MD,
                vectors_ND,
                network.item_bias,
                targets_M,
                network.log_popularity,
                self.config.n_negatives,
                seen_MS,
            )
        return tied_cross_entropy(
            expected_MD,
            vectors_ND,
            network.item_bias,
            targets_M,
            self.config.label_smoothing,
            seen_MS,
        )

    @property
    def samples(self) -> bool:
        """Whether the loss looks at a sample of the catalogue only."""
        if self.config.softmax == "auto":
            return self.network.n_items > LARGE_CATALOGUE
        return self.config.softmax == "sampled"


def seen_before(items_BL: Tensor, is_watch_BL: Tensor) -> Tensor:
    """What stands before each predicted watch in its row, [M, L − 1].

    A row is filled up with its own first watch, which always stands before:

        row a b c d     before b: a a a     before c: a b a     before d: a b c
    """
    before_BS = items_BL[:, :-1]
    row_M, position_M = is_watch_BL.nonzero(as_tuple=True)
    steps_S = torch.arange(before_BS.shape[1], device=items_BL.device)
    return torch.where(steps_S <= position_M[:, None], before_BS[row_M], before_BS[row_M, :1])
