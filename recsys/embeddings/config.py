"""Configuration of the embedding fit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys.config import Config


class PairWeights(Config):
    """Weights of the pairs: GloVe's f(X) where X is non-zero, a constant where it is zero.

    Pennington, Socher & Manning 2014, "GloVe: global vectors for word representation", eq. 9.
    GloVe omits pairs that never co-occur, as the default does.
    """

    x_max: float = Field(default=100.0, gt=0)
    """Values of X from `x_max` on have weight 1."""
    alpha: float = Field(default=0.75, ge=0)
    """Smaller values have weight (X / x_max)^alpha."""
    zero_weight: float = Field(default=0.0, ge=0, le=1)
    """Weight of pairs where X is zero."""


class EmbeddingConfig(Config):
    """Hyper-parameters of the embedding fit."""

    dim: int = Field(default=64, ge=1)
    """Dimension of the vectors."""
    method: Literal["descent", "spectral"] = "descent"
    """`descent`: gradient descent with `optimizer`. `spectral`: the optimum from eigenvectors;
    uses only `dim`, `epochs` and `tolerance`."""
    optimizer: Literal["scaled_sgd", "sgd", "adam", "lbfgs"] = "scaled_sgd"
    """`scaled_sgd` preconditions the gradient with about (VᵀV)⁻¹ and needs about ten times fewer
    steps than `sgd`. `adam` and `lbfgs` are provided for comparison."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Step size relative to the largest eigenvalue of X (for `adam`, to the size of an entry of
    V). None: the default of the optimizer."""
    momentum: float | None = Field(default=None, ge=0, lt=1)
    """Nesterov momentum of `sgd` and `scaled_sgd`, β₁ of `adam`. None: the optimizer's default."""
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    """Learning rate schedule. `cosine` anneals to zero over `epochs` (Loshchilov & Hutter 2017);
    `plateau` halves the rate when the loss has not improved for five epochs."""
    init: Literal["krylov", "spectral", "random"] = "krylov"
    """Initial vectors: the best in a Krylov space of three products with X, the optimum without
    pair weights, or Gaussian noise."""
    batch_rows: int | None = Field(default=None, ge=1)
    """Rows of X sampled for each step, paired with all columns. None: the full matrix."""
    epochs: int = Field(default=200, ge=1)
    """Maximum number of passes over all pairs."""
    tolerance: float = Field(default=1e-4, ge=0)
    """Stop when the loss has changed by less than this fraction within ten epochs."""
    pair_weights: PairWeights | None = None
    """Weights of the pairs. None: all pairs have weight 1."""
    compute_optimum: bool = True
    """Also compute the optimum, to report how close to it the fit is. This can take longer than
    the fit. Not available with pair weights."""
