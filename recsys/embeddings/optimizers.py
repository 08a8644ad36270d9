"""Gradient descent that does not slow down when the spectrum is uneven, and its peers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recsys.embeddings.config import EmbeddingConfig


class Defaults(NamedTuple):
    """What an optimizer takes where the configuration says nothing."""

    learning_rate: float
    momentum: float


DEFAULTS = {
    "scaled_sgd": Defaults(0.125, 0.8),
    "sgd": Defaults(0.1, 0.95),
    "adam": Defaults(0.05, 0.9),
    "lbfgs": Defaults(1.0, 0.0),
}
"""Chosen on raw counts of two data sets; `benchmarks/embeddings.py` shows how they converge."""

BATCH_DEFAULTS = DEFAULTS | {
    # A velocity outlives the visit of a row many times over, and would carry it away.
    "sgd": Defaults(0.1, 0.0),
    "adam": Defaults(0.01, 0.9),
}
"""The same for random rows."""


def make_optimizer(
    w_ND: torch.nn.Parameter, config: EmbeddingConfig, lowest: float, batch_share: float = 1.0
) -> torch.optim.Optimizer:
    """The optimizer of a configuration for W.

    Args:
        w_ND: W, of a matrix with λ₁ = 1.
        config: which, and its settings.
        lowest: the smallest eigenvalue of that matrix.
        batch_share: share of the rows in each step. The estimated gradient of a sampled row is
            the gradient over this share, so the step is shortened by it.
    """
    default = (DEFAULTS if config.batch_rows is None else BATCH_DEFAULTS)[config.optimizer]
    rate = config.learning_rate or default.learning_rate
    momentum = default.momentum if config.momentum is None else config.momentum
    if config.optimizer == "lbfgs":
        wolfe = {"line_search_fn": "strong_wolfe", "tolerance_grad": 0, "tolerance_change": 0}
        return torch.optim.LBFGS([w_ND], rate, max_iter=10, **wolfe)  # type: ignore[arg-type]
    if config.optimizer == "adam":
        # Its steps do not depend on the size of the gradient, only on that of an entry of W:
        # columns of length up to one have entries of about 1 / √n_items.
        entry = 1.0 / math.sqrt(len(w_ND))
        return torch.optim.Adam([w_ND], rate * entry * math.sqrt(batch_share), (momentum, 0.999))
    if config.optimizer == "scaled_sgd":
        return ScaledSGD([w_ND], rate * batch_share, momentum, lowest=lowest)
    return torch.optim.SGD([w_ND], rate * batch_share, momentum, nesterov=momentum > 0)


class ScaledSGD(torch.optim.Optimizer):
    """SGD whose gradient is multiplied by about (WᵀW)⁻¹, with Nesterov momentum.

    Plain gradient descent on W Wᵀ ≈ X learns the direction of the k-th eigenvector λ₁/λ_k times
    more slowly than the first. The d × d preconditioner removes that factor at a cost of O(n d²),
    no more than the loss itself (Tong, Ma & Chi 2021, "Accelerating ill-conditioned low-rank
    matrix estimation via scaled gradient descent", eq. 4).

    Near the optimum, with s² an eigenvalue of WᵀW, the curvature is 8 s² along W itself but
    4 (s² − λ) towards an eigenvector that W does not have, of eigenvalue λ. Where X has
    eigenvalues below −s², dividing by s² alone would leave more than 8, and steps would be too
    long. So each direction is divided by the larger of s² and (s² − λ_min) / 2.

    The momentum gathers as t / (t + 3), up to its limit, and starts anew whenever it points uphill
    (O'Donoghue & Candès 2015, "Adaptive restart for accelerated gradient schemes", eq. 12): what
    it has gathered on a steep stretch would otherwise carry it past the optimum again and again.

    Args:
        params: matrices W, [n, d].
        lr: step size, 1/8 for the inverse of the curvature.
        momentum: the most of Nesterov momentum, 0 for none.
        damping: the least to divide by, relative to the mean eigenvalue of WᵀW; without it,
            columns near zero would move without bound.
        lowest: λ_min, the smallest eigenvalue of X, zero or less.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.125,
        momentum: float = 0.0,
        damping: float = 0.03,
        lowest: float = 0.0,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "damping": damping, "lowest": lowest}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter by one step; gradients must have been computed."""
        if closure is not None:
            raise ValueError("ScaledSGD takes no closure: call backward() before step()")
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._move(param, param.grad, group)

    def _move(self, w_ND: Tensor, gradient_ND: Tensor, group: dict[str, Any]) -> None:
        direction_ND = gradient_ND @ _inverse_curvature(w_ND, group["damping"], group["lowest"])
        if group["momentum"]:
            state = self.state[w_ND]
            steps, velocity_ND = state.get("gathered", (0, torch.zeros_like(w_ND)))
            # The velocity is what is subtracted: along the gradient it leads downhill.
            if (velocity_ND * gradient_ND).sum() < 0:
                steps, velocity_ND = 0, torch.zeros_like(w_ND)
            momentum = min(group["momentum"], steps / (steps + 3))
            velocity_ND = momentum * velocity_ND + direction_ND
            state["gathered"] = steps + 1, velocity_ND
            direction_ND = direction_ND + momentum * velocity_ND
        w_ND.add_(direction_ND, alpha=-group["lr"])


def _inverse_curvature(w_ND: Tensor, damping: float, lowest: float) -> Tensor:
    """Eight times the inverse of what bounds the curvature in each direction, [d, d]."""
    exact_ND = w_ND.double()
    squares_D, basis_DD = torch.linalg.eigh(exact_ND.T @ exact_ND)
    bound_D = torch.maximum(squares_D, (squares_D - lowest) / 2)
    bound_D = bound_D.clamp_min(damping * squares_D.mean())
    inverse_DD: Tensor = (basis_DD / bound_D) @ basis_DD.T
    return inverse_DD.to(w_ND.dtype)
