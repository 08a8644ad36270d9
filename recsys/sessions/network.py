"""The network: item vectors, recurrent layers over them, and the same item vectors again.

Shapes: B batch, L session length, D embedding, H hidden, N items.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.sessions.attention import PastAttention
from recsys.sessions.config import SessionConfig
from recsys.sessions.dropout import keep, lock_dropout
from recsys.sessions.earlier_form import read_earlier_form
from recsys.sessions.feed_forward import FeedForward
from recsys.sessions.recurrent import CELLS, Hidden, Memory, Steps, pick, run_layer
from recsys.sessions.shortcut import Shortcut


class SessionNetwork(nn.Module):
    """Predicts, at every step of a watch sequence, the next item.

    item vectors → LayerNorm → recurrent layers → linear → dot product with the same item
    vectors + bias. Input and output vectors are tied (Press & Wolf 2017; Inan et al. 2017). A
    linear shortcut leads from the latest items past the recurrent layers to the output. A
    feed-forward block ends it. Layers above the first add to what is below them (He et al. 2016);
    dropout masks are locked over the steps of a sequence (Gal & Ghahramani 2016).

    Args:
        n_items: size of the catalogue; index `n_items` is the padding.
        config: sizes and dropout, none of them left open.

    Raises:
        ValueError: the configuration leaves sizes to the data.
    """

    log_popularity: Tensor
    """Logarithm of each item's share of the watches learned from, [N]."""
    temperature: Tensor
    """What logits are divided by to give calibrated probabilities; one until it is fitted."""

    def __init__(self, n_items: int, config: SessionConfig) -> None:
        super().__init__()
        if None in (config.embedding_dim, config.input_dropout):
            raise ValueError("the configuration leaves sizes open: settle them with resolve")
        self.n_items = n_items
        self.config = config
        d, h = config.embedding_dim or 0, config.hidden_dim
        self.item_embeddings = nn.Embedding(n_items + 1, d, padding_idx=n_items)  # [N + 1, D]
        self.item_embeddings.weight.requires_grad_(not config.freeze_item_embeddings)
        self.input_norm = nn.LayerNorm(d)
        cell = CELLS[config.cell]
        self.layers = nn.ModuleList(
            cell(h if layer else d, h, batch_first=True) for layer in range(config.n_layers)
        )
        self.output = nn.Linear(h, d)
        self.shortcut = Shortcut(d, config.ema_half_lives, config.ema_dropout)
        self.attention: PastAttention | None = None
        if config.attention:
            self.attention = PastAttention(h, d, config.train_chunk_length)
        self.feed_forward: FeedForward | None = None
        if config.feed_forward:
            self.feed_forward = FeedForward(d, config.feed_forward * d)
        self.item_bias = nn.Parameter(torch.zeros(n_items))  # [N]
        self.register_buffer("log_popularity", torch.zeros(n_items))
        self.register_buffer("temperature", torch.ones(()))
        self.register_load_state_dict_pre_hook(read_earlier_form)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, item_counts: Tensor) -> None:
        """Draw all parameters anew; biases start at the popularity of the items.

        Args:
            generator: of random numbers, on the CPU.
            item_counts: how often each item was watched, [N].
        """
        bound = self.config.hidden_dim**-0.5
        for name, parameter in self.named_parameters():
            if name.startswith(("layers.", "output.", "attention.")):
                parameter.copy_(_uniform(parameter, bound, generator))
        self.shortcut.weight.zero_()
        if self.attention is not None:
            self.attention.start_silent()
        if self.feed_forward is not None:
            self.feed_forward.initialise(generator)
        scale = torch.randn(self.item_embeddings.weight.shape, generator=generator)
        self.item_embeddings.weight.copy_(INITIAL_SCALE * scale)
        self.item_embeddings.weight[self.n_items] = 0.0
        # The softmax of the biases alone is the popularity, smoothed by half a watch per item.
        self.log_popularity.copy_(torch.log((item_counts + 0.5) / (item_counts + 0.5).sum()))
        self.item_bias.copy_(self.log_popularity)

    @torch.no_grad()
    def load_item_embeddings(self, item_embeddings: Tensor) -> None:
        """Copy pretrained vectors, scaled to the usual spread.

        Args:
            item_embeddings: [N, any number of columns]. Columns beyond the network's own are left
                out; columns that it has beyond these keep their random start.
        """
        width = min(item_embeddings.shape[1], self.item_embeddings.embedding_dim)
        chosen = item_embeddings[:, :width].float()
        spread = chosen.std()
        if spread > 0:
            self.item_embeddings.weight[: self.n_items, :width] = chosen * (INITIAL_SCALE / spread)

    def forward(self, items_BL: Tensor) -> Tensor:
        """What the model expects after each step, as a point among the item vectors, [B, L, D]."""
        return self.advance(items_BL)[0]

    def advance(self, items_BL: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Take further steps from where `memory` stands; None is the start of a sequence.

        Returns:
            What the model expects after each of these steps, [B, L, D], and the memory after
            the last.
        """
        steps, memory = self.recur(items_BL, memory)
        return self.read_out(steps), memory

    def recur(self, items_BL: Tensor, memory: Memory | None = None) -> tuple[Steps, Memory]:
        """`advance` short of `read_out`, for whoever needs only some of the answers."""
        vectors_BLD = self.item_embeddings(items_BL)
        if self.training and self.config.item_dropout:
            vectors_BLD = vectors_BLD * keep(vectors_BLD[:, :, :1], self.config.item_dropout)
        input_BLD = self._lock_dropout(self.input_norm(vectors_BLD), self.config.input_dropout)
        x_BLH = input_BLD
        hidden: list[Hidden] = []
        for index, layer in enumerate(self.layers):
            y_BLH, after = run_layer(layer, x_BLH, memory.hidden[index] if memory else None)
            hidden.append(after)
            y_BLH = self._lock_dropout(y_BLH, self.config.output_dropout)
            x_BLH = x_BLH + y_BLH if index else y_BLH
        steps = Steps(
            input_BLD, x_BLH, memory.means if memory else None, memory.past if memory else None
        )
        return steps, self._remember(tuple(hidden), steps)

    def read_out(self, steps: Steps) -> Tensor:
        """What the model expects after each step, [B, L, D]."""
        expected_BLD = self.shortcut(steps.inputs, steps.means) + self.output(steps.states)
        if self.attention is not None:
            expected_BLD = expected_BLD + self.attention(steps.states, steps.past)
        return self._transform(expected_BLD)

    def read_out_at(self, step_B: Tensor, steps: Steps) -> Tensor:
        """The same for one step of each sequence, [B, D], without the others; not for training."""
        expected_BD = self.shortcut.at(step_B, steps.inputs, steps.means)
        expected_BD = expected_BD + self.output(pick(steps.states, step_B))
        if self.attention is not None:
            expected_BD = expected_BD + self.attention.at(step_B, steps.states, steps.past)
        return self._transform(expected_BD)

    def logits(self, expected_BD: Tensor) -> Tensor:
        """Scores of all items at points among the item vectors, [B, N]."""
        return nn.functional.linear(expected_BD, self.output_vectors, self.item_bias)

    @property
    def output_vectors(self) -> Tensor:
        """The items as answers, [N, D]: the very vectors that they have as inputs."""
        return self.item_embeddings.weight[: self.n_items]

    def _remember(self, hidden: tuple[Hidden, ...], steps: Steps) -> Memory:
        past_BPH = None
        if self.attention is not None:
            past_BPH = self.attention.keep(steps.states, steps.past)
        return Memory(hidden, self.shortcut.after(steps.inputs, steps.means), past_BPH)

    def _transform(self, expected: Tensor) -> Tensor:
        return expected if self.feed_forward is None else self.feed_forward(expected)

    def _lock_dropout(self, x_BLD: Tensor, rate: float | None) -> Tensor:
        return lock_dropout(x_BLD, rate or 0.0) if self.training else x_BLD


INITIAL_SCALE = 0.1
"""Standard deviation of the item vectors before training."""


def _uniform(like: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    return (2.0 * torch.rand(like.shape, generator=generator) - 1.0) * bound
