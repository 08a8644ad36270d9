"""The hyper-parameters of the session model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat

from recsys.config import Config

KEY_DIM = 64
"""Length of the keys of the attention over past states."""


class SessionConfig(Config):
    """How the session model is built and trained."""

    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    """LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014) or plain tanh (Elman 1990)."""

    embedding_dim: int | None = Field(default=None, ge=1)
    """Length of the item vectors, shared by input and output; None takes 64, or 128 where there
    are 200,000 watches or more to learn from."""

    hidden_dim: int = Field(default=256, ge=1)
    """Size of the recurrent state."""

    n_layers: int = Field(default=1, ge=1)
    """Recurrent layers, one on the other; those above the first are residual."""

    attention: bool = True
    """Let each state look back at the latest `train_chunk_length` states."""

    feed_forward: int = Field(default=4, ge=0)
    """Inner size of the feed-forward block at the end, in embedding dimensions; zero for none."""

    ema_half_lives: tuple[PositiveFloat, ...] = (1.0, 2.5, 6.0, 25.0, 150.0)
    """How the latest watches reach the answer besides the recurrent layers: through means of their
    vectors in which a watch counts half after so many others."""

    item_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the watches in a sequence that are hidden from the model."""

    input_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of each sequence's input features that are hidden, the same at every step; None
    takes 0.2, or 0.1 where there are 200,000 watches or more."""

    output_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of each sequence's state features that are hidden, the same at every step."""

    ema_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the features of the latest watches that are hidden from the way past the recurrent
    layers, the same at every step."""

    item_embedding_init: Literal["ppmi", "cooccurrence", "random"] = "ppmi"
    """Where the item vectors start: from what is watched close together
    (`recsys.embeddings.ppmi_embeddings`), from the embeddings, or at random. Whoever trains passes
    the vectors; `random` takes no notice of them."""

    freeze_item_embeddings: bool = False
    """Keep the item embeddings at their initial values."""

    exclude_seen: bool = True
    """Watched items cannot come again, and have probability zero, in training as in scoring.
    False is for logs in which they do come again."""

    train_chunk_length: int = Field(default=100, ge=1)
    """Longest stretch of watches that is learned from at once."""

    max_history: int = Field(default=200, ge=1)
    """How many of the latest watches a prediction takes into account."""

    epochs: int = Field(default=16, ge=1)
    """Passes over all watches."""

    patience: int | None = Field(default=None, ge=1)
    """Stop after this many epochs without a better validation NDCG@10; None never stops early."""

    batch_size: int | None = Field(default=None, ge=1)
    """Stretches per step; None takes as many as make about 150 steps an epoch, from 8 to 32:
    small data needs small batches to see enough steps."""

    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak rate of AdamW, after a linear warm-up, before a cosine decay to 5 %."""

    warmup_steps: int = Field(default=100, ge=0)
    """Steps over which the learning rate rises from zero."""

    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay (Loshchilov & Hutter 2019) of the matrices; biases have none."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target's probability that is spread over the catalogue (Szegedy et al. 2016)."""

    gradient_clip: float = Field(default=1.0, gt=0)
    """Longest gradient, over all parameters together."""

    loss: Literal["auto", "full", "sampled"] = "auto"
    """Cross-entropy over the whole catalogue, or over a sample; `auto` samples where there are
    more than 50,000 items."""

    n_negatives: int = Field(default=512, ge=1)
    """Items drawn for each step of the sampled softmax, besides the targets of the batch."""

    def resolve(self, n_watches: int) -> SessionConfig:
        """With everything that was left to the size of the data settled.

        Args:
            n_watches: how many watches there are to learn from.

        Example:
            >>> SessionConfig(input_dropout=0.5).resolve(1_000_000).input_dropout
            0.5
            >>> SessionConfig().resolve(1_000_000).embedding_dim
            128
        """
        by_size = _LARGE if n_watches >= LARGE_DATASET else _SMALL
        left_open = {name: v for name, v in by_size.items() if getattr(self, name) is None}
        return self.model_copy(update=left_open)


LARGE_DATASET = 200_000
"""From so many watches on a log is large."""

_SMALL = {"embedding_dim": 64, "input_dropout": 0.2}
_LARGE = {"embedding_dim": 128, "input_dropout": 0.1}
