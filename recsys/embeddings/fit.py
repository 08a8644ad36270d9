"""Fit movie embeddings to co-occurrence counts by gradient descent."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from recsys.callbacks import OnEpoch, ignore
from recsys.config import Config, Runtime
from recsys.cooccurrence import Cooccurrence
from recsys.embeddings.item_embeddings import ItemEmbeddings
from recsys.embeddings.objective import PairObjective
from recsys.embeddings.optimizers import ScaledSGD
from recsys.errors import DataError, TrainingError

# Step sizes relative to the largest eigenvalue of X, which the objective divides by.
_LEARNING_RATE = {"scaled_sgd": 0.125, "sgd": 0.02}
_MOMENTUM = {"scaled_sgd": 0.5, "sgd": 0.95}


class EmbeddingConfig(Config):
    """How the embeddings are fitted."""

    dim: int = Field(default=64, ge=1)
    """Length of each vector."""

    optimizer: Literal["scaled_sgd", "sgd"] = "scaled_sgd"
    """`scaled_sgd` preconditions the gradient by (VᵀV)⁻¹ and needs some ten times fewer steps."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Step size relative to the largest eigenvalue of X; None takes the optimizer's default."""

    momentum: float | None = Field(default=None, ge=0, lt=1)
    """Nesterov momentum; None takes the optimizer's default."""

    epochs: int = Field(default=200, ge=1)
    """Full passes over all pairs, one gradient step each, at most."""

    tolerance: float = Field(default=1e-4, ge=0)
    """Stop when the loss stays within this share of itself for ten epochs."""


def fit_embeddings(
    counts: Cooccurrence,
    config: EmbeddingConfig | None = None,
    *,
    runtime: Runtime | None = None,
    on_epoch: OnEpoch = ignore,
) -> ItemEmbeddings:
    """Minimise Σ_{i≠j} (v_iᵀv_j − X_ij)² over all ordered pairs, zeros included.

    Args:
        counts: X_ij.
        config: dimension and optimiser.
        runtime: device, seed and threads.
        on_epoch: called after each step with `loss`, the value of the sum, and
            `relative_loss`, its share of Σ X_ij².

    Raises:
        DataError: no two items co-occur, or there are fewer items than dimensions.
        TrainingError: the loss grew without bound.
    """
    config = config or EmbeddingConfig()
    runtime = runtime or Runtime()
    if counts.matrix.nnz == 0:
        raise DataError("no two items were liked by the same user: there is nothing to fit")
    if config.dim >= counts.n_items:
        raise DataError(
            f"there are only {counts.n_items} items for embeddings of dim {config.dim}: lower dim"
        )
    with runtime.limit_threads():
        objective = PairObjective(counts.matrix, runtime.torch_device())
        w_ND = torch.nn.Parameter(_spectral_start(objective, config.dim, runtime.seed))
        losses = _descend(objective, w_ND, config, on_epoch)
        vectors_ND = w_ND.detach() * math.sqrt(objective.top_eigenvalue)
    return ItemEmbeddings(
        vectors=vectors_ND.cpu().numpy(),
        items=counts.items,
        loss=losses[-1] * objective.sum_of_squares,
        relative_loss=losses[-1],
    )


def _spectral_start(objective: PairObjective, dim: int, seed: int) -> Tensor:
    """The leading eigenvectors of X, roughly, by randomised subspace iteration.

    Halko, Martinsson & Tropp 2011, algorithm 4.4, with a final Rayleigh-Ritz step. Items
    without any co-occurrence start, and stay, at the zero vector.
    """
    generator = torch.Generator().manual_seed(seed)
    n_items, width = objective.n_items, min(dim + 8, objective.n_items)
    basis_NK = torch.randn(n_items, width, generator=generator).to(objective.device)
    for _ in range(2):
        basis_NK, _ = torch.linalg.qr(objective.scaled @ basis_NK)
    projected_KK = basis_NK.T @ (objective.scaled @ basis_NK)
    values_K, rotation_KK = torch.linalg.eigh(projected_KK)
    # eigh sorts ascending; a negative eigenvalue has no real square root and starts near zero.
    top_D = values_K[-dim:].flip(0).clamp_min(1e-6)
    start_ND: Tensor = basis_NK @ rotation_KK[:, -dim:].flip(1) * top_D.sqrt()
    return start_ND * objective.has_pairs[:, None]


def _descend(
    objective: PairObjective, w_ND: torch.nn.Parameter, config: EmbeddingConfig, on_epoch: OnEpoch
) -> list[float]:
    """Step until converged; give back the relative loss before each step, and after the last."""
    optimizer = _optimizer(w_ND, config)
    losses: list[float] = []
    for epoch in range(config.epochs + 1):
        optimizer.zero_grad(set_to_none=True)
        loss = objective.loss(w_ND)
        value = max(loss.item(), 0.0)  # rounding can take a perfect fit below zero
        if not value < 10.0:  # also true of NaN; the start is always below 1
            raise TrainingError(
                f"the loss diverged (relative loss {value:.3g} at epoch {epoch}): lower "
                f"learning_rate (now {optimizer.param_groups[0]['lr']:g})"
            )
        losses.append(value)
        if epoch:
            on_epoch(epoch, {"loss": value * objective.sum_of_squares, "relative_loss": value})
        if epoch == config.epochs or _converged(losses, config.tolerance):
            break
        # Undo the normalisation of `loss`: learning rates are relative to a matrix with λ₁ = 1.
        (loss * objective.scaled_sum_of_squares).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return losses


def _converged(losses: list[float], tolerance: float, window: int = 10) -> bool:
    # The range, not the difference: momentum can carry the loss up and down again.
    recent = losses[-1 - window :]
    return len(losses) > window and max(recent) - min(recent) <= tolerance * losses[-1]


def _optimizer(w_ND: torch.nn.Parameter, config: EmbeddingConfig) -> torch.optim.Optimizer:
    learning_rate = config.learning_rate or _LEARNING_RATE[config.optimizer]
    momentum = _MOMENTUM[config.optimizer] if config.momentum is None else config.momentum
    if config.optimizer == "scaled_sgd":
        return ScaledSGD([w_ND], lr=learning_rate, momentum=momentum)
    return torch.optim.SGD([w_ND], lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
