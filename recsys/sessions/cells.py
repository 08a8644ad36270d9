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


class LSTM:
    """An LSTM layer.

    σ(x) = (1 + tanh(x / 2)) / 2, so that with the rows of three gates halved one tanh serves all
    four of them.
    """

    n_parts = 2

    def __init__(self, weight_GX: Floats, weight_GH: Floats, bias_G: Floats) -> None:
        hidden = weight_GH.shape[1]
        self._half_G = np.full(4 * hidden, 0.5, dtype=np.float32)
        self._shift_G = np.ones(4 * hidden, dtype=np.float32)
        tanh = slice(2 * hidden, 3 * hidden)  # i, f, g, o: g is a tanh itself
        self._half_G[tanh], self._shift_G[tanh] = 1.0, 0.0
        self._from_input_XG = (weight_GX * self._half_G[:, None]).T
        self._from_state_HG = (weight_GH * self._half_G[:, None]).T
        self._bias_G = bias_G * self._half_G
        self._i, self._f, self._g, self._o = (
            slice(gate * hidden, (gate + 1) * hidden) for gate in range(4)
        )

    def prepare(self, input_LX: Floats) -> Floats:
        """What the inputs add to the gates, [L, 4H]."""
        gates_LG: Floats = input_LX @ self._from_input_XG
        gates_LG += self._bias_G
        return gates_LG

    def step(self, prepared_G: Floats, state_PH: Floats) -> None:
        """To c ← σ(f) c + σ(i) tanh(g);  h ← σ(o) tanh(c)."""
        h_H, c_H = state_PH
        gates_G = h_H @ self._from_state_HG
        gates_G += prepared_G
        np.tanh(gates_G, out=gates_G)
        gates_G += self._shift_G
        gates_G *= self._half_G
        c_H *= gates_G[..., self._f]
        added_H = gates_G[..., self._i]
        added_H *= gates_G[..., self._g]
        c_H += added_H
        np.tanh(c_H, out=h_H)
        h_H *= gates_G[..., self._o]


class GRU:
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


class RNN:
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
