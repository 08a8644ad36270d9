"""Gradient descent that does not slow down when the spectrum is uneven."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class ScaledSGD(torch.optim.Optimizer):
    """SGD whose gradient is multiplied by (WᵀW)⁻¹, with Nesterov momentum.

    Plain gradient descent on W Wᵀ ≈ X learns the direction of the k-th eigenvector λ₁/λ_k times
    more slowly than the first. The d × d preconditioner removes that factor at a cost of O(n d²),
    no more than the loss itself (Tong, Ma & Chi 2021, "Accelerating ill-conditioned low-rank
    matrix estimation via scaled gradient descent", eq. 4).

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
            if velocity_ND is None:
                velocity_ND = torch.zeros_like(w_ND)
            velocity_ND = momentum * velocity_ND + direction_ND
            state["velocity"] = velocity_ND
            direction_ND = direction_ND + momentum * velocity_ND
        w_ND.add_(direction_ND, alpha=-group["lr"])
