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
    "scaled_sgd": Defaults(0.125, 0.7),
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
    w_ND: torch.nn.Parameter, config: EmbeddingConfig, batch_share: float = 1.0
) -> torch.optim.Optimizer:
    """The optimizer of a configuration for W.

    Args:
        w_ND: W, of a matrix with λ₁ = 1.
        config: which, and its settings.
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
        return ScaledSGD([w_ND], rate * batch_share, momentum)
    return torch.optim.SGD([w_ND], rate * batch_share, momentum, nesterov=momentum > 0)


class ScaledSGD(torch.optim.Optimizer):
    """SGD whose gradient is multiplied by (WᵀW)⁻¹, with Nesterov momentum.

    Plain gradient descent on W Wᵀ ≈ X learns the direction of the k-th eigenvector λ₁/λ_k times
    more slowly than the first. The d × d preconditioner removes that factor at a cost of O(n d²),
    no more than the loss itself (Tong, Ma & Chi 2021, "Accelerating ill-conditioned low-rank
    matrix estimation via scaled gradient descent", eq. 4).

    The momentum starts anew whenever it points uphill (O'Donoghue & Candès 2015, "Adaptive
    restart for accelerated gradient schemes", eq. 12): what it has gathered on a steep stretch
    would otherwise carry it past the optimum again and again.

    Args:
        params: matrices W, [n, d].
        lr: step size; 1/8 is a full Newton-like step for Σ (w_iᵀw_j − x_ij)² where only one
            side moves, and keeps both sides stable.
        momentum: Nesterov momentum, 0 for none.
        damping: added to the diagonal of WᵀW, relative to its mean; without it, columns near
            zero would move without bound.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.125,
        momentum: float = 0.0,
        damping: float = 0.03,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "damping": damping})

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
        gram_DD = w_ND.T @ w_ND
        gram_DD.diagonal().add_(group["damping"] * gram_DD.diagonal().mean())
        direction_ND = torch.linalg.solve(gram_DD, gradient_ND.T).T
        momentum = group["momentum"]
        if momentum:
            state = self.state[w_ND]
            velocity_ND = state.get("velocity")
            # The velocity is what is subtracted: along the gradient it leads downhill.
            if velocity_ND is None or (velocity_ND * gradient_ND).sum() < 0:
                velocity_ND = torch.zeros_like(w_ND)
            velocity_ND = momentum * velocity_ND + direction_ND
            state["velocity"] = velocity_ND
            direction_ND = direction_ND + momentum * velocity_ND
        w_ND.add_(direction_ND, alpha=-group["lr"])
