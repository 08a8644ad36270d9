"""Minimise the pair objective by gradient descent: the optimizers and their loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from recsys.embeddings.config import EmbeddingConfig
from recsys.embeddings.objective import PairObjective
from recsys.errors import ConfigError, TrainingError

OnLoss = Callable[[int, float], None]
"""Called after each epoch with its number, from 1, and the loss relative to W = 0."""

DEFAULTS = {"scaled_sgd": (0.125, 0.8), "sgd": (0.1, 0.95), "adam": (0.05, 0.9), "lbfgs": (1.0, 0)}
"""Learning rate and momentum, tuned on raw counts of two data sets (`benchmarks/embeddings.py`)."""

BATCH_DEFAULTS = DEFAULTS | {"sgd": (0.1, 0.0), "adam": (0.01, 0.9)}
"""With `batch_rows`: momentum would keep moving a row long after the step that sampled it."""

_DIVERGED = 1000.0  # relative loss; it is 1 at W = 0, and at most tens after a long step


def has_converged(losses: list[float], tolerance: float, window: int = 10) -> bool:
    """Whether the loss has stayed within a relative `tolerance` for `window` epochs."""
    # The range and not the difference: momentum can make the loss oscillate.
    recent = losses[-1 - window :]
    return len(losses) > window and max(recent) - min(recent) <= tolerance * losses[-1]


class Descent:
    """Minimises the objective over W, in place."""

    def __init__(
        self, objective: PairObjective, w_ND: Parameter, config: EmbeddingConfig, on_loss: OnLoss
    ) -> None:
        self._objective, self._w_ND, self._config, self._on_loss = objective, w_ND, config, on_loss
        self._batch = min(config.batch_rows or objective.n_items, objective.n_items)
        fraction = self._batch / objective.n_items
        self._optimizer = make_optimizer(w_ND, config, objective.lowest_eigenvalue, fraction)
        self._losses: list[float] = []

    def run(self, seed: int) -> None:
        """Run until convergence; `seed` determines the sampled rows."""
        if self._config.optimizer == "lbfgs":
            self._run_lbfgs()
        elif self._config.batch_rows is None:
            self._run_full_batch()
        else:
            self._run_minibatches(np.random.default_rng(seed))

    def _run_full_batch(self) -> None:
        """One step per epoch along the exact gradient."""
        update_rate = self._schedule()
        for epoch in range(self._config.epochs + 1):
            # The loss after a step is computed together with the next gradient.
            self._record(epoch, self._backward(self._objective.loss(self._w_ND)))
            if epoch == self._config.epochs or has_converged(self._losses, self._config.tolerance):
                break
            self._optimizer.step()
            update_rate(self._losses[-1])

    def _run_minibatches(self, rng: np.random.Generator) -> None:
        """Steps along gradients of sampled rows; an epoch has as many steps as make one pass."""
        update_rate, n_items = self._schedule(), self._objective.n_items
        self._record(0, self._evaluate())
        for epoch in range(1, self._config.epochs + 1):
            for _ in range(math.ceil(n_items / self._batch)):
                rows = rng.choice(n_items, self._batch, replace=False)
                self._backward(self._objective.sampled_loss(self._w_ND, rows))
                self._optimizer.step()
            self._record(epoch, self._evaluate())
            if has_converged(self._losses, self._config.tolerance):
                break
            update_rate(self._losses[-1])

    def _run_lbfgs(self) -> None:
        """Ten L-BFGS iterations at a time; every evaluation of the gradient counts as an epoch."""
        if self._config.batch_rows is not None:
            raise ConfigError("lbfgs needs the exact gradient: remove batch_rows or use sgd")
        epochs = 0

        def closure() -> float:
            nonlocal epochs
            epochs += 1
            loss = self._backward(self._objective.loss(self._w_ND))
            return loss * self._objective.scaled_sum_of_squares

        tolerance = self._config.tolerance
        while epochs < self._config.epochs and not has_converged(self._losses, tolerance, window=2):
            self._optimizer.step(closure)
            self._record(epochs, self._evaluate())

    def _backward(self, loss: Tensor) -> float:
        self._optimizer.zero_grad(set_to_none=True)
        # Undo the normalisation of `loss`: learning rates are relative to a matrix with λ₁ = 1.
        scaled = loss * self._objective.scaled_sum_of_squares
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def _evaluate(self) -> float:
        return self._objective.loss(self._w_ND.detach()).item()

    def _record(self, epoch: int, loss: float) -> None:
        if not loss < _DIVERGED:  # also true for NaN
            raise TrainingError(
                f"the loss diverged ({loss:.3g} times the loss of zero vectors): lower "
                f"learning_rate (now {self._optimizer.param_groups[0]['lr']:g}) or momentum"
            )
        self._losses.append(max(loss, 0.0))  # rounding can make a perfect fit negative
        if epoch:
            self._on_loss(epoch, self._losses[-1])

    def _schedule(self) -> Callable[[float], None]:
        """A function that updates the learning rate after an epoch, given the loss."""
        if self._config.schedule == "cosine":
            cosine = CosineAnnealingLR(self._optimizer, T_max=self._config.epochs)
            return lambda _loss: cosine.step()
        if self._config.schedule == "plateau":
            return ReduceLROnPlateau(
                self._optimizer, factor=0.5, patience=5, threshold=self._config.tolerance
            ).step
        return lambda _loss: None


def make_optimizer(
    w_ND: Parameter, config: EmbeddingConfig, lowest: float, batch_fraction: float
) -> Optimizer:
    """Create the optimizer for W, given the smallest eigenvalue of X / λ₁.

    The learning rate is multiplied by `batch_fraction`, by which sampled gradients are divided.
    """
    defaults = DEFAULTS if config.batch_rows is None else BATCH_DEFAULTS
    default_rate, default_momentum = defaults[config.optimizer]
    rate = config.learning_rate or default_rate
    momentum = default_momentum if config.momentum is None else config.momentum
    if config.optimizer == "lbfgs":
        wolfe = {"line_search_fn": "strong_wolfe", "tolerance_grad": 0, "tolerance_change": 0}
        return torch.optim.LBFGS([w_ND], rate, max_iter=10, **wolfe)  # type: ignore[arg-type]
    if config.optimizer == "adam":
        entry = 1.0 / math.sqrt(len(w_ND))  # about the size of an entry of W
        return torch.optim.Adam([w_ND], rate * entry * math.sqrt(batch_fraction), (momentum, 0.999))
    if config.optimizer == "scaled_sgd":
        return ScaledSGD([w_ND], rate * batch_fraction, momentum, lowest=lowest)
    return torch.optim.SGD([w_ND], rate * batch_fraction, momentum, nesterov=momentum > 0)


class ScaledSGD(Optimizer):
    """SGD with the preconditioner (WᵀW)⁻¹ and Nesterov momentum.

    Plain gradient descent on W Wᵀ ≈ X learns the k-th eigenvector λ₁/λ_k times more slowly than
    the first. The d × d preconditioner removes that factor (Tong, Ma & Chi 2021, "Accelerating
    ill-conditioned low-rank matrix estimation via scaled gradient descent", eq. 4).

    Near the optimum, with s² an eigenvalue of WᵀW, the curvature is 8 s² along W and 4 (s² − λ)
    towards an eigenvector of X with eigenvalue λ that W does not contain. Each direction is
    divided by max(s², (s² − λ_min) / 2), or steps would be too long for eigenvalues below −s².

    Momentum grows as t / (t + 3) up to `momentum`, and restarts when the velocity points uphill
    (O'Donoghue & Candès 2015, "Adaptive restart for accelerated gradient schemes", eq. 12).

    Args:
        params: Matrices W, [n, d].
        lr: Learning rate; 1/8 corresponds to the inverse curvature.
        momentum: Maximum Nesterov momentum; 0 disables it.
        damping: Lower bound of the divisor, relative to the mean eigenvalue of WᵀW.
        lowest: λ_min, the smallest eigenvalue of X, at most zero.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.125,
        momentum: float = 0.0,
        damping: float = 0.03,
        lowest: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "damping": damping, "lowest": lowest}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Perform one step with the gradients of the last backward pass."""
        if closure is not None:
            raise ValueError("ScaledSGD takes no closure: call backward() before step()")
        for group in self.param_groups:
            for w_ND in group["params"]:
                if w_ND.grad is not None:
                    self._update(w_ND, w_ND.grad, group)

    def _update(self, w_ND: Tensor, gradient_ND: Tensor, group: dict[str, Any]) -> None:
        direction_ND = gradient_ND @ _inverse_curvature(w_ND, group["damping"], group["lowest"])
        if group["momentum"]:
            state = self.state[w_ND]
            steps, velocity_ND = state.get("velocity", (0, torch.zeros_like(w_ND)))
            # The velocity is subtracted: it leads downhill if it points along the gradient.
            if (velocity_ND * gradient_ND).sum() < 0:
                steps, velocity_ND = 0, torch.zeros_like(w_ND)
            momentum = min(group["momentum"], steps / (steps + 3))
            velocity_ND = momentum * velocity_ND + direction_ND
            state["velocity"] = steps + 1, velocity_ND
            direction_ND = direction_ND + momentum * velocity_ND
        w_ND.add_(direction_ND, alpha=-group["lr"])


def _inverse_curvature(w_ND: Tensor, damping: float, lowest: float) -> Tensor:
    """Eight times the inverse of a bound of the curvature in each direction, [d, d]."""
    exact_ND = w_ND.double()
    squares_D, basis_DD = torch.linalg.eigh(exact_ND.T @ exact_ND)
    bound_D = torch.maximum(squares_D, (squares_D - lowest) / 2)
    bound_D = bound_D.clamp_min(damping * squares_D.mean())
    inverse_DD: Tensor = (basis_DD / bound_D) @ basis_DD.T
    return inverse_DD.to(w_ND.dtype)
