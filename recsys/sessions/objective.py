"""What training minimises: the cross-entropy of each next watch of a batch."""

from __future__ import annotations

from torch import Tensor, nn

from recsys.sessions.config import SessionConfig
from recsys.sessions.loss import tied_cross_entropy
from recsys.sessions.network import SessionNetwork
from recsys.sessions.sampled_loss import sampled_cross_entropy
from recsys.sessions.seen import Seen

LARGE_CATALOGUE = 50_000
"""With more items than this, `loss = "auto"` samples."""


class Objective(nn.Module):
    """A network and its loss as one module, so that data-parallel training sees all of it."""

    def __init__(self, network: SessionNetwork, config: SessionConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def forward(self, items_BL: Tensor, earlier_BP: Tensor) -> Tensor:
        """Mean loss per watch of a padded batch, every watch but the first of a row predicted.

        Args:
            items_BL: stretches of watches, padded at the end.
            earlier_BP: what was watched before them, see `Seen`.
        """
        network = self.network
        is_watch_BL = items_BL[:, 1:] != network.n_items
        expected_MD = network(items_BL[:, :-1])[is_watch_BL].to(network.item_bias.dtype)
        seen = None
        if self.config.exclude_seen:
            seen = Seen(earlier_BP, items_BL[:, :-1], *is_watch_BL.nonzero(as_tuple=True))
        return self.loss(expected_MD, items_BL[:, 1:][is_watch_BL], seen)

    def loss(self, expected_MD: Tensor, targets_M: Tensor, seen: Seen | None) -> Tensor:
        """Mean loss of predictions of which none is padding."""
        network = self.network
        if self.samples:
            return sampled_cross_entropy(
                expected_MD,
                network.output_vectors,
                network.item_bias,
                targets_M,
                network.log_popularity,
                self.config.n_negatives,
                seen,
            )
        return tied_cross_entropy(
            expected_MD,
            network.output_vectors,
            network.item_bias,
            targets_M,
            self.config.label_smoothing,
            seen,
        )

    @property
    def samples(self) -> bool:
        """Whether the loss looks at a sample of the catalogue only."""
        if self.config.loss == "auto":
            return self.network.n_items > LARGE_CATALOGUE
        return self.config.loss == "sampled"
