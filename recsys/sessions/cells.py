"""Recurrent layers in numpy, for one sequence at a time.

torch spends some ten microseconds on each call before it computes anything, several times what a
step itself takes. The formulas are torch's (nn.LSTM, nn.GRU, nn.RNN).

Shapes: L steps, X size of the input, H hidden, G gates (a multiple of H).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_HALF = np.float32(0.5)
_ONE = np.float32(1.0)


class Cell(Protocol):
    """One recurrent layer; for several sequences at once an axis B stands first in each shape."""

    n_parts: int
    """How many vectors make up the state: (h,), or (h, c) of an LSTM."""

    def prepare(self, input_LX: Floats) -> Floats:
        """What the inputs add to the gates, all steps at once, [L, G]."""
        ...

    def step(self, prepared_G: Floats, state_PH: Floats) -> None:
        """Take a step: `state_PH` ([P, B, H] for several), h first, is changed in place."""
        ...

    def run(self, input_LX: Floats, state_PH: Floats) -> Floats:
        """Take all steps of one sequence, `state_PH` as in `step`; gives back each h, [L, H]."""
        ...


class _StepByStep:
    """`run` as a loop over `step`."""

    def run(self: Cell, input_LX: Floats, state_PH: Floats) -> Floats:
        """Take all steps of one sequence; see `Cell.run`."""
        prepared_LG = self.prepare(input_LX)
        y_LH = np.empty((len(input_LX), state_PH.shape[1]), np.float32)
        for prepared_G, y_H in zip(prepared_LG, y_LH, strict=True):
            self.step(prepared_G, state_PH)
            y_H[...] = state_PH[0]
        return y_LH


class LSTM:
    """An LSTM layer.

    σ(x) = (1 + tanh(x / 2)) / 2, so that with the rows of three gates halved one tanh serves all
    four of them. The gates are put in the order i, f, o, g, in which these three are neighbours.
    The matrix is halved once more, and multiplied by twice h: halving rounds nothing.
    """

    n_parts = 2

    def __init__(self, weight_GX: Floats, weight_GH: Floats, bias_G: Floats) -> None:
        hidden = weight_GH.shape[1]
        i, f, g, o = np.arange(4 * hidden).reshape(4, hidden)  # torch's order
        order_G = np.concatenate([i, f, o, g])
        half_G1 = np.full((4 * hidden, 1), _HALF)
        half_G1[3 * hidden :] = 1.0
        self._from_input_XG = (weight_GX[order_G] * half_G1).T
        self._from_twice_HG = np.ascontiguousarray((weight_GH[order_G] * (_HALF * half_G1)).T)
        self._bias_G = bias_G[order_G] * half_G1[:, 0]
        self._hidden = hidden

    def prepare(self, input_LX: Floats) -> Floats:
        """What the inputs add to the gates, [L, 4H]."""
        gates_LG: Floats = input_LX @ self._from_input_XG
        gates_LG += self._bias_G
        return gates_LG

    def step(self, prepared_G: Floats, state_PH: Floats) -> None:
        """To c ← σ(f) c + σ(i) tanh(g);  h ← σ(o) tanh(c)."""
        h_H, c_H = state_PH
        gates_G = (h_H + h_H) @ self._from_twice_HG
        gates_G += prepared_G
        np.tanh(gates_G, out=gates_G)
        n = self._hidden
        sigmoids_G = gates_G[..., : 3 * n]
        sigmoids_G *= _HALF
        sigmoids_G += _HALF
        i_H, f_H, o_H, g_H = (gates_G[..., gate * n : (gate + 1) * n] for gate in range(4))
        c_H *= f_H
        i_H *= g_H
        c_H += i_H
        np.tanh(c_H, out=h_H)
        h_H *= o_H

    def run(self, input_LX: Floats, state_PH: Floats) -> Floats:
        """Take all steps of one sequence; see `Cell.run`.

        As a loop over `step`. Beside the product with a matrix that is in the
        cache, numpy's calls are what takes time, so that there are few of them, and everything
        they need is made once: c stands behind the gates, so that [i, f] and [g, c] are multiplied
        at once, and sigmoids are left at twice what they are until the end of all steps.
        """
        n, dot, add, multiply, tanh = self._hidden, np.dot, np.add, np.multiply, np.tanh
        gates_and_c = np.empty(5 * n, np.float32)
        gates_G, sigmoids_G = gates_and_c[: 4 * n], gates_and_c[: 3 * n]
        i_f, o_H, g_c = gates_and_c[: 2 * n], gates_and_c[2 * n : 3 * n], gates_and_c[3 * n :]
        c_H, products, matrix_HG = g_c[n:], np.empty(2 * n, np.float32), self._from_twice_HG
        i_g, f_c = products[:n], products[n:]
        c_H[...] = state_PH[1]
        latest_H = state_PH[0] + state_PH[0]
        y_LH = np.empty((len(input_LX), n), np.float32)
        for prepared_G, y_H in zip(self.prepare(input_LX), y_LH, strict=True):
            dot(latest_H, matrix_HG, out=gates_G)
            add(gates_G, prepared_G, out=gates_G)
            tanh(gates_G, out=gates_G)
            add(sigmoids_G, _ONE, out=sigmoids_G)
            multiply(i_f, g_c, out=products)
            add(i_g, f_c, out=c_H)
            multiply(c_H, _HALF, out=c_H)
            tanh(c_H, out=y_H)
            multiply(y_H, o_H, out=y_H)
            latest_H = y_H
        state_PH[1], state_PH[0] = c_H, latest_H * _HALF
        y_LH *= _HALF
        return y_LH


class GRU(_StepByStep):
    """A GRU layer, as torch has it: the reset gate acts on W h + b."""

    n_parts = 1

    def __init__(
        self, weight_GX: Floats, weight_GH: Floats, bias_X_G: Floats, bias_H_G: Floats
    ) -> None:
        self._from_input_XG, self._from_state_HG = weight_GX.T, weight_GH.T
        self._bias_X_G, self._bias_H_G = bias_X_G, bias_H_G
        self._hidden = weight_GH.shape[1]

    def prepare(self, input_LX: Floats) -> Floats:
        """What the inputs add to the gates, [L, 3H]."""
        gates_LG: Floats = input_LX @ self._from_input_XG + self._bias_X_G
        return gates_LG

    def step(self, prepared_G: Floats, state_PH: Floats) -> None:
        """To h ← (1 − z) n + z h,  n = tanh(x_n + r (W h + b)_n)."""
        h_H, hidden = state_PH[0], self._hidden
        recurrent_G = h_H @ self._from_state_HG + self._bias_H_G
        gates_G = _sigmoid(prepared_G[..., : 2 * hidden] + recurrent_G[..., : 2 * hidden])
        r_H, z_H = gates_G[..., :hidden], gates_G[..., hidden:]
        n_H = np.tanh(prepared_G[..., 2 * hidden :] + r_H * recurrent_G[..., 2 * hidden :])
        h_H[...] = n_H + z_H * (h_H - n_H)


class RNN(_StepByStep):
    """A layer of plain tanh units."""

    n_parts = 1

    def __init__(self, weight_GX: Floats, weight_GH: Floats, bias_G: Floats) -> None:
        self._from_input_XG, self._from_state_HG = weight_GX.T, weight_GH.T
        self._bias_G = bias_G

    def prepare(self, input_LX: Floats) -> Floats:
        """What the inputs add, [L, H]."""
        gates_LG: Floats = input_LX @ self._from_input_XG + self._bias_G
        return gates_LG

    def step(self, prepared_G: Floats, state_PH: Floats) -> None:
        """To h ← tanh(x + W h)."""
        np.tanh(prepared_G + state_PH[0] @ self._from_state_HG, out=state_PH[0])


def cell_of(kind: str, arrays: Mapping[str, NDArray[Any]], layer: int) -> Cell:
    """The layer with the parameters that torch names `layers.<layer>.*`."""
    weight_GX, weight_GH, bias_X_G, bias_H_G = (
        arrays[f"layers.{layer}.{name}_l0"]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    if kind == "gru":
        return GRU(weight_GX, weight_GH, bias_X_G, bias_H_G)
    layer_of = LSTM if kind == "lstm" else RNN
    return layer_of(weight_GX, weight_GH, bias_X_G + bias_H_G)


def _sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^−x), without overflow."""
    result: Floats = 0.5 + 0.5 * np.tanh(0.5 * x)
    return result
