"""Recurrent layers in numpy, for one sequence or for several at once.

torch spends some ten microseconds on each call before it computes anything, several times what a
step itself takes. The formulas are torch's (nn.LSTM, nn.GRU, nn.RNN).

Shapes: B sequences, L steps, X size of the input, H hidden, G gates (a multiple of H),
A = X + 1 + H.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_HALF = np.float32(0.5)
_ONE = np.float32(1.0)


class Cell(Protocol):
    """One recurrent layer."""

    n_parts: int
    """How many vectors make up the state: (h,), or (h, c) of an LSTM."""

    def run(self, input_LX: Floats, state_PH: Floats) -> Floats:
        """Take all steps of one sequence; gives back each h, [L, H].

        `state_PH`, h first, is changed in place.
        """
        ...

    def run_many(self, input_LBX: Floats, n_going_L: NDArray[np.integer]) -> Floats:
        """Take all steps of several sequences from the start; gives back each h, [L, B, H].

        Of each step only the first `n_going_L` sequences take part; the others' h is zero.
        """
        ...


class _StepByStep(ABC):
    """Both as loops over a step; for several sequences at once an axis B stands first."""

    n_parts = 1

    def __init__(self, hidden: int) -> None:
        self._hidden = hidden

    @abstractmethod
    def prepare(self, input_LX: Floats) -> Floats:
        """What the inputs add to the gates, all steps at once, [L, G]."""

    @abstractmethod
    def step(self, prepared_G: Floats, h_H: Floats) -> Floats:
        """The new h."""

    def run(self, input_LX: Floats, state_PH: Floats) -> Floats:
        """Take all steps of one sequence; see `Cell.run`."""
        y_LH = np.empty((len(input_LX), self._hidden), np.float32)
        for prepared_G, y_H in zip(self.prepare(input_LX), y_LH, strict=True):
            state_PH[0] = y_H[...] = self.step(prepared_G, state_PH[0])
        return y_LH

    def run_many(self, input_LBX: Floats, n_going_L: NDArray[np.integer]) -> Floats:
        """Take all steps of several sequences; see `Cell.run_many`."""
        y_LBH = np.zeros((*input_LBX.shape[:2], self._hidden), np.float32)
        h_BH = np.zeros(y_LBH.shape[1:], np.float32)
        for input_BX, y_BH, n in zip(input_LBX, y_LBH, n_going_L.tolist(), strict=True):
            h_BH = y_BH[:n] = self.step(self.prepare(input_BX[:n]), h_BH[:n])
        return y_LBH


class LSTM:
    """An LSTM layer.

    σ(x) = (1 + tanh(x / 2)) / 2, so that with the rows of three gates halved one tanh serves all
    four of them. The gates are put in the order i, f, o, g, in which these three are neighbours.
    The part for h is halved once more, and multiplied by twice h: halving rounds nothing.
    """

    n_parts = 2

    def __init__(self, weight_GX: Floats, weight_GH: Floats, bias_G: Floats) -> None:
        hidden, width = weight_GH.shape[1], weight_GX.shape[1]
        i, f, g, o = np.arange(4 * hidden).reshape(4, hidden)  # torch's order
        order_G = np.concatenate([i, f, o, g])
        matrix_AG = np.empty((width + 1 + hidden, 4 * hidden), np.float32)
        matrix_AG[:width] = weight_GX[order_G].T
        matrix_AG[width] = bias_G[order_G]
        matrix_AG[width + 1 :] = weight_GH[order_G].T * _HALF
        matrix_AG[:, : 3 * hidden] *= _HALF
        self._matrix_AG = matrix_AG
        self._from_input_XG, self._bias_G = matrix_AG[:width], matrix_AG[width]
        self._from_twice_HG = matrix_AG[width + 1 :]
        self._hidden = hidden

    def run(self, input_LX: Floats, state_PH: Floats) -> Floats:
        """Take all steps of one sequence; see `Cell.run`.

        c ← σ(f) c + σ(i) tanh(g);  h ← σ(o) tanh(c). Beside the product with a matrix that is in
        the cache, numpy's calls are what takes time. So there are few of them, and what they need
        is made once: c stands behind the gates, so that [i, f] and [g, c] are multiplied at once,
        and sigmoids are left at twice what they are, as h is until the end.
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
        prepared_LG = input_LX @ self._from_input_XG
        prepared_LG += self._bias_G
        for prepared_G, y_H in zip(prepared_LG, y_LH, strict=True):
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

    def run_many(self, input_LBX: Floats, n_going_L: NDArray[np.integer]) -> Floats:
        """Take all steps of several sequences; see `Cell.run_many`.

        Of each step one product of [input, 1, twice h] with one matrix: BLAS makes the most of it.
        """
        n, (n_steps, n_sequences, width) = self._hidden, input_LBX.shape
        joined_BA = np.zeros((n_sequences, len(self._matrix_AG)), np.float32)
        joined_BA[:, width] = 1.0
        all_gates_BG = np.empty((n_sequences, 4 * n), np.float32)
        all_c_BH = np.zeros((n_sequences, n), np.float32)
        y_LBH = np.zeros((n_steps, n_sequences, n), np.float32)
        for input_BX, y_BH, going in zip(input_LBX, y_LBH, n_going_L.tolist(), strict=True):
            step_BA, gates_BG, c_BH = joined_BA[:going], all_gates_BG[:going], all_c_BH[:going]
            step_BA[:, :width] = input_BX[:going]
            np.matmul(step_BA, self._matrix_AG, out=gates_BG)
            np.tanh(gates_BG, out=gates_BG)
            gates_BG[:, : 3 * n] += _ONE
            i_BH, f_BH, o_BH, g_BH = (gates_BG[:, gate * n : (gate + 1) * n] for gate in range(4))
            c_BH *= f_BH
            i_BH *= g_BH
            c_BH += i_BH
            c_BH *= _HALF
            np.tanh(c_BH, out=g_BH)
            np.multiply(g_BH, o_BH, out=step_BA[:, width + 1 :])
            np.multiply(step_BA[:, width + 1 :], _HALF, out=y_BH[:going])
        return y_LBH


class GRU(_StepByStep):
    """A GRU layer, as torch has it: the reset gate acts on W h + b."""

    def __init__(
        self, weight_GX: Floats, weight_GH: Floats, bias_X_G: Floats, bias_H_G: Floats
    ) -> None:
        self._from_input_XG, self._from_state_HG = weight_GX.T, weight_GH.T
        self._bias_X_G, self._bias_H_G = bias_X_G, bias_H_G
        super().__init__(weight_GH.shape[1])

    def prepare(self, input_LX: Floats) -> Floats:
        """What the inputs add to the gates, [L, 3H]."""
        gates_LG: Floats = input_LX @ self._from_input_XG + self._bias_X_G
        return gates_LG

    def step(self, prepared_G: Floats, h_H: Floats) -> Floats:
        """To (1 − z) n + z h,  n = tanh(x_n + r (W h + b)_n)."""
        hidden = self._hidden
        recurrent_G = h_H @ self._from_state_HG + self._bias_H_G
        gates_G = _sigmoid(prepared_G[..., : 2 * hidden] + recurrent_G[..., : 2 * hidden])
        r_H, z_H = gates_G[..., :hidden], gates_G[..., hidden:]
        n_H = np.tanh(prepared_G[..., 2 * hidden :] + r_H * recurrent_G[..., 2 * hidden :])
        new_H: Floats = n_H + z_H * (h_H - n_H)
        return new_H


class RNN(_StepByStep):
    """A layer of plain tanh units."""

    def __init__(self, weight_GX: Floats, weight_GH: Floats, bias_G: Floats) -> None:
        self._from_input_XG, self._from_state_HG = weight_GX.T, weight_GH.T
        self._bias_G = bias_G
        super().__init__(weight_GH.shape[1])

    def prepare(self, input_LX: Floats) -> Floats:
        """What the inputs add, [L, H]."""
        gates_LG: Floats = input_LX @ self._from_input_XG + self._bias_G
        return gates_LG

    def step(self, prepared_G: Floats, h_H: Floats) -> Floats:
        """To tanh(x + W h)."""
        new_H: Floats = np.tanh(prepared_G + h_H @ self._from_state_HG)
        return new_H


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
