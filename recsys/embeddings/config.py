"""How embeddings are fitted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys.config import Config

OptimizerName = Literal["scaled_sgd", "sgd", "adam", "lbfgs"]
Schedule = Literal["constant", "cosine", "plateau"]


class PairWeights(Config):
    """How much each pair matters: GloVe's f(X) where X is not zero, a constant where it is.

    Pennington, Socher & Manning 2014, "GloVe: global vectors for word representation", eq. 9.
    They leave out the pairs that never co-occur, as the default does; that their weight is one
    constant is what keeps the sum over all pairs as cheap as that over the others.
    """

    x_max: float = Field(default=100.0, gt=0)
    """Values of X from here on have weight 1."""

    alpha: float = Field(default=0.75, ge=0)
    """Smaller values have weight (X / x_max)^alpha."""

    zero_weight: float = Field(default=0.0, ge=0, le=1)
    """Weight of the pairs whose X is zero."""


class EmbeddingConfig(Config):
    """How the embeddings are fitted."""

    dim: int = Field(default=64, ge=1)
    """Length of each vector."""

    method: Literal["descent", "spectral"] = "descent"
    """`descent` follows the gradient with the optimizer below; `spectral` computes the optimum
    by eigenvectors and takes no notice of the rest but `dim`, `epochs` and `tolerance`."""

    optimizer: OptimizerName = "scaled_sgd"
    """`scaled_sgd` divides the gradient by the curvature, about VᵀV, and needs some ten times
    fewer steps than `sgd`; `adam` and `lbfgs` are there to compare with."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Step size, relative to the largest eigenvalue of X (for `adam` to the size of an entry of
    V), so that it means the same on every matrix; None takes the optimizer's default."""

    momentum: float | None = Field(default=None, ge=0, lt=1)
    """Nesterov momentum of `sgd` and `scaled_sgd`, β₁ of `adam`; None takes the default."""

    schedule: Schedule = "constant"
    """`cosine` lets the learning rate fall to zero over all epochs (Loshchilov & Hutter 2017);
    `plateau` halves it whenever the loss has stood still for five."""

    init: Literal["krylov", "spectral", "random"] = "krylov"
    """Where to start: the best in a Krylov space of three products with X, the optimum of the
    problem without pair weights, or Gaussian noise."""

    batch_rows: int | None = Field(default=None, ge=1)
    """Items i drawn at random for each step, against all items j; None takes all at once."""

    epochs: int = Field(default=200, ge=1)
    """Passes over all pairs, at most."""

    tolerance: float = Field(default=1e-4, ge=0)
    """Stop when the loss stays within this share of itself for ten epochs."""

    pair_weights: PairWeights | None = None
    """Weights of the pairs; None weighs all alike."""

    compute_optimum: bool = True
    """Compute the best attainable loss as well, to tell how far from it the fit is. It can take
    longer than the fit itself. There is no such value with pair weights."""
