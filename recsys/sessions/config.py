"""The hyper-parameters of the session model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys.config import Config


class SessionConfig(Config):
    """How the LSTM is built and trained."""

    embedding_dim: int = Field(default=64, ge=1)
    """Length of the item vectors, shared by input and output."""

    hidden_dim: int = Field(default=256, ge=1)
    """Size of the LSTM's state."""

    n_layers: int = Field(default=1, ge=1)
    """LSTM layers, one on the other."""

    item_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the watches in a sequence that are hidden from the model."""

    input_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of each sequence's input features that are hidden, the same at every step."""

    output_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of each sequence's state features that are hidden, the same at every step."""

    initial_vectors: Literal["embeddings", "random"] = "embeddings"
    """Start the item vectors from the co-occurrence embeddings, where given, or at random."""

    max_session_length: int = Field(default=100, ge=1)
    """Longest stretch of watches that is learned from at once."""

    max_history_length: int = Field(default=200, ge=1)
    """How many of the latest watches a prediction takes into account."""

    epochs: int = Field(default=8, ge=1)
    """Passes over all watches."""

    batch_size: int | None = Field(default=None, ge=1)
    """Stretches per step; None takes as many as make about 150 steps an epoch, from 8 to 64:
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
