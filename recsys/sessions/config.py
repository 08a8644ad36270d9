"""The hyper-parameters of the session model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat

from recsys.config import Config

KEY_DIM = 64
"""Size of the attention's keys."""

_LARGE = 200_000  # interactions
_SMALL_EPOCHS, _EPOCHS, _PREDICTIONS = 12, 16, 32_000_000


class SessionConfig(Config):
    """Architecture and training of the session model."""

    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    """LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014) or tanh RNN (Elman 1990)."""

    embedding_dim: int | None = Field(default=None, ge=1)
    """Size of the item embeddings. None means 64, or 128 for 200,000 interactions or more."""

    hidden_dim: int = Field(default=256, ge=1)
    """Size of the recurrent state."""

    epochs: int | None = Field(default=None, ge=1)
    """Passes over all interactions. None means 12 for fewer than 200,000 interactions, 16 up to two
    million, and for more as many as make 32 million predictions, but at least two."""

    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate of AdamW, after a linear warm-up and before a cosine decay to 5 %."""

    n_layers: int = Field(default=1, ge=1)
    """Number of recurrent layers. Layers above the first are residual."""

    attention: bool = True
    """Attend from each state to the latest `train_chunk_length` states."""

    feed_forward: int = Field(default=4, ge=0)
    """Inner size of the feed-forward block as a multiple of `embedding_dim`; zero for none."""

    ema_half_lives: tuple[PositiveFloat, ...] = (1.0, 2.5, 6.0, 25.0, 150.0)
    """Half-lives, in interactions, of the exponential moving averages of the inputs that bypass
    the recurrent layers."""

    item_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of zeroing an input item."""

    input_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Variational dropout of the input features: one mask for all steps of a sequence. None means
    0.2, or 0.1 for 200,000 interactions or more."""

    output_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Variational dropout of the states of each recurrent layer."""

    ema_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Variational dropout of the moving averages and the latest input."""

    item_embedding_init: Literal["ppmi", "cooccurrence", "random"] = "ppmi"
    """Initial item embeddings: those of windowed PPMI (`recsys.ppmi_embeddings`), those fitted to
    the co-occurrence, or random. The caller passes the embeddings; `random` ignores them."""

    freeze_item_embeddings: bool = False
    """Keep the item embeddings at their initial values."""

    train_chunk_length: int = Field(default=100, ge=1)
    """Maximum number of predictions per training sequence."""

    max_history: int = Field(default=200, ge=1)
    """Number of latest interactions that a prediction takes into account."""

    validation_users: int = Field(default=10_000, ge=1)
    """Users on whom the model is validated after each epoch, the same in every epoch. The final
    metrics are those of all users."""

    patience: int | None = Field(default=None, ge=1)
    """Epochs without improvement of the validation NDCG@10 after which to stop; None for never."""

    batch_size: int | None = Field(default=None, ge=1)
    """Sequences per step. None means about 150 steps per epoch, within 8 to 32 sequences."""

    warmup_steps: int = Field(default=100, ge=0)
    """Steps of the linear warm-up."""

    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay (Loshchilov & Hutter 2019) of matrices; biases have none."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target probability spread over the catalogue (Szegedy et al. 2016). The sampled
    loss has none."""

    gradient_clip: float = Field(default=1.0, gt=0)
    """Maximum norm of the gradient."""

    loss: Literal["auto", "full", "sampled"] = "auto"
    """Cross-entropy over the catalogue or a sample; `auto` samples above 50,000 items."""

    n_negatives: int = Field(default=512, ge=1)
    """Items drawn per step for the sampled loss: half of them uniformly, half from the targets of
    the batch."""

    def resolve(self, n_interactions: int) -> SessionConfig:
        """Replace None in settings that depend on the number of training interactions."""
        large = n_interactions >= _LARGE
        most = _EPOCHS if large else _SMALL_EPOCHS
        defaults = {
            "embedding_dim": 128 if large else 64,
            "input_dropout": 0.1 if large else 0.2,
            "epochs": min(most, max(2, round(_PREDICTIONS / max(n_interactions, 1)))),
        }
        unset = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return self.model_copy(update=unset)
