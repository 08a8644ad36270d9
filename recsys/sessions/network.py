"""The network: item vectors, an LSTM over them, and the same item vectors again.

Shapes: B batch, L session length, D embedding, H hidden, N items.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.sessions.config import SessionConfig


class LSTMNetwork(nn.Module):
    """Predicts, at every step of a watch sequence, the next item.

    item vectors → LayerNorm → LSTM → linear → dot product with the same item vectors + bias.
    Input and output vectors are tied (Press & Wolf 2017; Inan et al. 2017); dropout masks are
    locked over the steps of a sequence (Gal & Ghahramani 2016).

    Args:
        n_items: size of the catalogue; index `n_items` is the padding.
        config: sizes and dropout.
    """

    def __init__(self, n_items: int, config: SessionConfig) -> None:
        super().__init__()
        self.n_items = n_items
        self.config = config
        self.item_vectors = nn.Embedding(
            n_items + 1, config.embedding_dim, padding_idx=n_items
        )  # [N + 1, D]
        self.input_norm = nn.LayerNorm(config.embedding_dim)
        self.lstm = nn.LSTM(
            config.embedding_dim, config.hidden_dim, config.n_layers, batch_first=True
        )
        self.output = nn.Linear(config.hidden_dim, config.embedding_dim)
        self.item_bias = nn.Parameter(torch.zeros(n_items))  # [N]

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, item_counts: Tensor) -> None:
        """Draw all parameters anew; biases start at the popularity of the items.

        Args:
            generator: of random numbers, on the CPU.
            item_counts: how often each item was watched, [N].
        """
        bound = self.config.hidden_dim**-0.5
        for name, parameter in self.named_parameters():
            if name.startswith(("lstm.", "output.")):
                parameter.copy_(_uniform(parameter, bound, generator))
        scale = torch.randn(self.item_vectors.weight.shape, generator=generator)
        self.item_vectors.weight.copy_(INITIAL_SCALE * scale)
        self.item_vectors.weight[self.n_items] = 0.0
        # The softmax of the biases alone is the popularity, smoothed by half a watch per item.
        self.item_bias.copy_(torch.log((item_counts + 0.5) / (item_counts + 0.5).sum()))

    @torch.no_grad()
    def start_vectors_from(self, item_vectors: Tensor) -> None:
        """Copy pretrained vectors, scaled to the usual spread.

        Args:
            item_vectors: [N, any number of columns]. Columns beyond the network's own are left
                out; columns that it has beyond these keep their random start.
        """
        width = min(item_vectors.shape[1], self.config.embedding_dim)
        chosen = item_vectors[:, :width].float()
        spread = chosen.std()
        if spread > 0:
            self.item_vectors.weight[: self.n_items, :width] = chosen * (INITIAL_SCALE / spread)

    def forward(self, items_BL: Tensor) -> Tensor:
        """What the model expects after each step, as a point among the item vectors, [B, L, D]."""
        vectors_BLD = self.item_vectors(items_BL)
        if self.training and self.config.item_dropout:
            vectors_BLD = vectors_BLD * _keep(vectors_BLD[:, :, :1], self.config.item_dropout)
        inputs_BLD = self._lock_dropout(self.input_norm(vectors_BLD), self.config.input_dropout)
        states_BLH, _ = self.lstm(inputs_BLD)
        expected_BLD: Tensor = self.output(
            self._lock_dropout(states_BLH, self.config.output_dropout)
        )
        return expected_BLD

    def logits(self, expected_BD: Tensor) -> Tensor:
        """Scores of all items at points among the item vectors, [B, N]."""
        return nn.functional.linear(
            expected_BD, self.item_vectors.weight[: self.n_items], self.item_bias
        )

    def _lock_dropout(self, x_BLD: Tensor, rate: float) -> Tensor:
        """Dropout with one mask for all steps of a sequence."""
        return x_BLD * _keep(x_BLD[:, :1], rate) if self.training and rate else x_BLD


INITIAL_SCALE = 0.1
"""Standard deviation of the item vectors before training."""


def _keep(like: Tensor, rate: float) -> Tensor:
    """Zero with probability `rate`, else 1 / (1 − rate), so that the mean stays one."""
    return (torch.rand_like(like) >= rate).to(like.dtype) / (1.0 - rate)


def _uniform(like: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    return (2.0 * torch.rand(like.shape, generator=generator) - 1.0) * bound
