"""Follow the gradient of the objective until it leads no further down."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from recsys.embeddings.config import EmbeddingConfig
from recsys.embeddings.objective import PairObjective
from recsys.embeddings.optimizers import make_optimizer
from recsys.errors import ConfigError, TrainingError

OnLoss = Callable[[int, float], None]
"""Called after each epoch with its number, from one, and the loss over that at W = 0."""

_DIVERGED = 1000.0
"""A loss that no fit comes back from: at W = 0 it is 1, and after a long first step some tens."""


def descend(
    objective: PairObjective,
    w_ND: torch.nn.Parameter,
    config: EmbeddingConfig,
    *,
    seed: int,
    on_loss: OnLoss,
) -> float:
    """Move W downhill, in place, until converged; give back the loss over that at W = 0.

    Args:
        objective: the loss.
        w_ND: where to start.
        config: optimizer, schedule, and when to stop.
        seed: of the random rows.
        on_loss: told the loss after each epoch.

    Raises:
        TrainingError: the loss grew without bound.
        ConfigError: `lbfgs` with random rows.
    """
    if config.optimizer == "lbfgs":
        return _line_searches(objective, w_ND, config, on_loss)
    if config.batch_rows is not None:
        return _random_rows(objective, w_ND, config, seed, on_loss)
    return _full_steps(objective, w_ND, config, on_loss)


def _full_steps(
    objective: PairObjective, w_ND: torch.nn.Parameter, config: EmbeddingConfig, on_loss: OnLoss
) -> float:
    """One step an epoch, along the exact gradient."""
    optimizer = make_optimizer(w_ND, config, objective.lowest_eigenvalue)
    schedule = _schedule(optimizer, config)
    losses: list[float] = []
    for epoch in range(config.epochs + 1):
        # The loss before a step is that after the last one, and comes with the gradient.
        losses.append(_checked(_gradient(optimizer, objective, objective.loss(w_ND)), optimizer))
        if epoch:
            on_loss(epoch, losses[-1])
        if epoch == config.epochs or has_converged(losses, config.tolerance):
            break
        optimizer.step()
        schedule(losses[-1])
    return losses[-1]


def _random_rows(
    objective: PairObjective,
    w_ND: torch.nn.Parameter,
    config: EmbeddingConfig,
    seed: int,
    on_loss: OnLoss,
) -> float:
    """Steps along gradients of random rows against all; as many as make one pass an epoch."""
    batch = min(config.batch_rows or 1, objective.n_items)
    optimizer = make_optimizer(
        w_ND, config, objective.lowest_eigenvalue, batch_share=batch / objective.n_items
    )
    schedule = _schedule(optimizer, config)
    random = np.random.default_rng(seed)
    losses = [objective.loss(w_ND.detach()).item()]
    for epoch in range(1, config.epochs + 1):
        for _ in range(math.ceil(objective.n_items / batch)):
            rows = random.choice(objective.n_items, batch, replace=False)
            _gradient(optimizer, objective, objective.sampled_loss(w_ND, rows))
            optimizer.step()
        losses.append(_checked(objective.loss(w_ND.detach()).item(), optimizer))
        on_loss(epoch, losses[-1])
        if has_converged(losses, config.tolerance):
            break
        schedule(losses[-1])
    return losses[-1]


def _line_searches(
    objective: PairObjective, w_ND: torch.nn.Parameter, config: EmbeddingConfig, on_loss: OnLoss
) -> float:
    """Rounds of ten directions of L-BFGS; every look at the gradient counts as an epoch."""
    if config.batch_rows is not None:
        raise ConfigError("lbfgs needs the exact gradient: leave batch_rows out, or take sgd")
    optimizer = make_optimizer(w_ND, config, objective.lowest_eigenvalue)
    losses: list[float] = []
    epochs = 0

    def evaluate() -> float:
        nonlocal epochs
        epochs += 1
        return (
            _gradient(optimizer, objective, objective.loss(w_ND)) * objective.scaled_sum_of_squares
        )

    while epochs < config.epochs and not has_converged(losses, config.tolerance, window=2):
        optimizer.step(evaluate)
        losses.append(_checked(objective.loss(w_ND.detach()).item(), optimizer))
        on_loss(epochs, losses[-1])
    return losses[-1]


def _gradient(optimizer: Optimizer, objective: PairObjective, loss: Tensor) -> float:
    optimizer.zero_grad(set_to_none=True)
    # Undo the normalisation of `loss`: learning rates are relative to a matrix with λ₁ = 1.
    (loss * objective.scaled_sum_of_squares).backward()  # type: ignore[no-untyped-call]
    return loss.item()


def _checked(loss: float, optimizer: Optimizer) -> float:
    if not loss < _DIVERGED:  # also true of NaN
        raise TrainingError(
            f"the loss diverged (it is {loss:.3g} times that of zero vectors): lower "
            f"learning_rate (now {optimizer.param_groups[0]['lr']:g}) or momentum"
        )
    return max(loss, 0.0)  # rounding can take a perfect fit below zero


def _schedule(optimizer: Optimizer, config: EmbeddingConfig) -> Callable[[float], None]:
    """What changes the learning rate after an epoch, given the loss."""
    if config.schedule == "cosine":
        cosine = CosineAnnealingLR(optimizer, T_max=config.epochs)
        return lambda _loss: cosine.step()
    if config.schedule == "plateau":
        plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=5, threshold=config.tolerance)
        return plateau.step
    return lambda _loss: None


def has_converged(losses: list[float], tolerance: float, window: int = 10) -> bool:
    """Whether the loss has stayed within `tolerance` of itself for `window` epochs."""
    # The range, not the difference: momentum can carry the loss up and down again.
    recent = losses[-1 - window :]
    return len(losses) > window and max(recent) - min(recent) <= tolerance * losses[-1]
