"""Recurrent layers in numpy.

They serve single requests, where the call overhead of torch, about ten microseconds per operation,
is several times the cost of a step. The formulas are those of `torch.nn.LSTM`, `GRU` and `RNN`.

Shapes: B sequences, L steps, P parts of a state, X input size, H hidden, G gates (a multiple of
H), A = X + 1 + H.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_HALF = np.float32(0.5)
_ONE = np.float32(1.0)


class NumpyLayer:
    """One recurrent layer, from `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0` and `bias_hh_l0`."""

    n_gates = 1
    n_parts = 1  # vectors in a state: (h,), or (h, c) for an LSTM
    _sums_biases = True

    def __init__(
        self, weight_GX: Floats, weight_GH: Floats, bias_X_G: Floats, bias_H_G: Floats
    ) -> None:
        self._hidden = weight_GH.shape[1]
        self._input_weight_XG, self._hidden_weight_HG = weight_GX.T, weight_GH.T
        self._input_bias_G = bias_X_G + bias_H_G if self._sums_biases else bias_X_G
        self._hidden_bias_G = bias_H_G

    def run(self, input_LX: Floats, state_PH: Floats) -> Floats:
        """Run one sequence and return each h, [L, H]. `state_PH`, h first, is updated in place."""
        y_LH = np.empty((len(input_LX), self._hidden), np.float32)
        gates_LG = input_LX @ self._input_weight_XG + self._input_bias_G
        for input_G, y_H in zip(gates_LG, y_LH, strict=True):
            state_PH[0] = y_H[...] = self._step(input_G, state_PH[0])
        return y_LH

    def run_batch(self, input_LBX: Floats, n_active_L: NDArray[np.integer]) -> Floats:
        """Run several sequences from the initial state and return each h, [L, B, H].

        Only the first `n_active_L` sequences take part in a step; h is zero for the rest.
        """
        y_LBH = np.zeros((*input_LBX.shape[:2], self._hidden), np.float32)
        h_BH = np.zeros(y_LBH.shape[1:], np.float32)
        for input_BX, y_BH, n in zip(input_LBX, y_LBH, n_active_L.tolist(), strict=True):
            input_BG = input_BX[:n] @ self._input_weight_XG + self._input_bias_G
            h_BH = y_BH[:n] = self._step(input_BG, h_BH[:n])
        return y_LBH

    def _step(self, input_G: Floats, h_H: Floats) -> Floats:
        """The next h; both arguments may have a leading batch axis."""
        raise NotImplementedError


class NumpyLSTM(NumpyLayer):
    """An LSTM layer.

    σ(x) = (1 + tanh(x / 2)) / 2: with the rows of three gates halved, one tanh computes all four
    gates. Gates are ordered i, f, o, g, so that the sigmoids are contiguous. The loops carry 2h
    instead of h, and the weights for h are halved once more; halving is exact.
    """

    n_gates, n_parts = 4, 2

    def __init__(self, *parameters: Floats) -> None:
        super().__init__(*parameters)
        hidden, width = self._hidden, len(self._input_weight_XG)
        i, f, g, o = np.arange(4 * hidden).reshape(4, hidden)  # torch's order
        parts = (self._input_weight_XG, self._input_bias_G[None], self._hidden_weight_HG * _HALF)
        matrix_AG = np.vstack(parts)[:, np.concatenate([i, f, o, g])]
        matrix_AG[:, : 3 * hidden] *= _HALF
        self._matrix_AG = np.ascontiguousarray(matrix_AG)
        self._input_weight_XG, self._input_bias_G = self._matrix_AG[:width], self._matrix_AG[width]
        self._hidden_weight_HG = self._matrix_AG[width + 1 :]

    def run(self, input_LX: Floats, state_PH: Floats) -> Floats:
        """Run one sequence; see `NumpyLayer.run`.

        c ← σ(f) c + σ(i) tanh(g);  h ← σ(o) tanh(c). To save calls, buffers are allocated once,
        c is next to the gates to multiply [i, f] by [g, c] at once, and sigmoids stay doubled.
        """
        n, dot, add, multiply, tanh = self._hidden, np.dot, np.add, np.multiply, np.tanh
        gates_and_c = np.empty(5 * n, np.float32)
        gates_G, sigmoids_G = gates_and_c[: 4 * n], gates_and_c[: 3 * n]
        i_f, o_H, g_c = gates_and_c[: 2 * n], gates_and_c[2 * n : 3 * n], gates_and_c[3 * n :]
        c_H, products, matrix_HG = g_c[n:], np.empty(2 * n, np.float32), self._hidden_weight_HG
        i_g, f_c = products[:n], products[n:]
        c_H[...] = state_PH[1]
        twice_h_H = state_PH[0] + state_PH[0]
        y_LH = np.empty((len(input_LX), n), np.float32)
        input_LG = input_LX @ self._input_weight_XG + self._input_bias_G
        for input_G, y_H in zip(input_LG, y_LH, strict=True):
            dot(twice_h_H, matrix_HG, out=gates_G)
            add(gates_G, input_G, out=gates_G)
            tanh(gates_G, out=gates_G)
            add(sigmoids_G, _ONE, out=sigmoids_G)
            multiply(i_f, g_c, out=products)
            add(i_g, f_c, out=c_H)
            multiply(c_H, _HALF, out=c_H)
            tanh(c_H, out=y_H)
            multiply(y_H, o_H, out=y_H)
            twice_h_H = y_H
        state_PH[1], state_PH[0] = c_H, twice_h_H * _HALF
        y_LH *= _HALF
        return y_LH

    def run_batch(self, input_LBX: Floats, n_active_L: NDArray[np.integer]) -> Floats:
        """Run several sequences; the gates are one matrix product of [input, 1, 2h] per step."""
        n, (n_steps, n_sequences, width) = self._hidden, input_LBX.shape
        joined_BA = np.zeros((n_sequences, len(self._matrix_AG)), np.float32)
        joined_BA[:, width] = 1.0
        all_gates_BG = np.empty((n_sequences, 4 * n), np.float32)
        all_c_BH = np.zeros((n_sequences, n), np.float32)
        y_LBH = np.zeros((n_steps, n_sequences, n), np.float32)
        for input_BX, y_BH, active in zip(input_LBX, y_LBH, n_active_L.tolist(), strict=True):
            step_BA, gates_BG, c_BH = joined_BA[:active], all_gates_BG[:active], all_c_BH[:active]
            step_BA[:, :width] = input_BX[:active]
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
            np.multiply(step_BA[:, width + 1 :], _HALF, out=y_BH[:active])
        return y_LBH


class NumpyGRU(NumpyLayer):
    """A GRU layer as in torch: the reset gate multiplies W h + b."""

    n_gates = 3
    _sums_biases = False

    def _step(self, input_G: Floats, h_H: Floats) -> Floats:
        """Compute (1 − z) n + z h with n = tanh(x_n + r (W h + b)_n)."""
        hidden = self._hidden
        recurrent_G = h_H @ self._hidden_weight_HG + self._hidden_bias_G
        sums_G = input_G[..., : 2 * hidden] + recurrent_G[..., : 2 * hidden]
        gates_G: Floats = _HALF + _HALF * np.tanh(_HALF * sums_G)  # the sigmoid, without overflow
        r_H, z_H = gates_G[..., :hidden], gates_G[..., hidden:]
        n_H = np.tanh(input_G[..., 2 * hidden :] + r_H * recurrent_G[..., 2 * hidden :])
        new_H: Floats = n_H + z_H * (h_H - n_H)
        return new_H


class NumpyRNN(NumpyLayer):
    """A layer of tanh units."""

    def _step(self, input_G: Floats, h_H: Floats) -> Floats:
        """Compute tanh(x + W h)."""
        new_H: Floats = np.tanh(input_G + h_H @ self._hidden_weight_HG)
        return new_H


CELLS: dict[str, type[NumpyLayer]] = {"lstm": NumpyLSTM, "gru": NumpyGRU, "rnn": NumpyRNN}
"""The layers by `SessionConfig.cell`; the key in capitals is the name of the torch module."""
