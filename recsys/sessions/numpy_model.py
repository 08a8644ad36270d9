"""The session model in numpy: the same numbers without torch.

For one sequence torch spends more time on its calls than on what they compute, and seconds on
being imported.

Shapes: B sequences, L steps, P remembered steps, D embedding, H hidden, K key, S half-lives,
N items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from recsys.sessions.cells import Floats, cell_of
from recsys.sessions.weights import Weights

_EPSILON = 1e-5  # nn.LayerNorm's
_ONE = np.float32(1.0)
_PIECE = 512  # items whose vectors, and the same as columns, stay in the cache
_SQRT_HALF = np.float32(0.5**0.5)


class State:
    """Where one sequence stands; changed in place by `NumpySessionModel.step`."""

    __slots__ = ("hidden", "means_SD", "n_steps", "past_PM", "query_D")

    def __init__(self, hidden: list[Floats], means_SD: Floats, past_PM: Floats) -> None:
        self.hidden = hidden
        """The state of each layer, [n_parts, H]."""
        self.means_SD = means_SD
        """Of the inputs, for each half-life of the shortcut."""
        self.past_PM = past_PM
        """Key and value of the latest states, [P, K + D]; grows up to the window, then the oldest
        is overwritten. Attention knows no order, so the rows need none."""
        self.n_steps = 0
        self.query_D: Floats | None = None
        """What the model expects next; None before the first watch."""

    def copy(self) -> State:
        """Another that goes its own way."""
        hidden = [part.copy() for part in self.hidden]
        twin = State(hidden, self.means_SD.copy(), self.past_PM.copy())
        twin.n_steps, twin.query_D = self.n_steps, self.query_D
        return twin

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (*self.hidden, self.means_SD, self.past_PM)
        return sum(array.nbytes for array in arrays)


class NumpySessionModel:
    """The network of a session model, as plain arrays.

    Args:
        weights: of the model.
    """

    def __init__(self, weights: Weights) -> None:
        arrays, config = weights.arrays, weights.config
        self.config = config
        scale = np.float32(1.0) / np.float32(arrays["temperature"])
        self.n_items = len(arrays["item_bias"])
        self.item_embeddings_ND: Floats = np.asarray(
            arrays["item_embeddings.weight"][: self.n_items]
        )
        # Columns instead of rows, and the bias as one more of them: for one sequence the product
        # with this takes half the time that it takes with the vectors as they are.
        self._scoring_CN = _beside(self.item_embeddings_ND, arrays["item_bias"] * scale)
        self._scale = scale
        self.log_popularity_N: Floats = _normalised(arrays["log_popularity"] * scale)
        self._arrays = arrays
        self._cells = [cell_of(config.cell, arrays, i) for i in range(config.n_layers)]
        self._decay_S = 0.5 ** (1.0 / np.array(config.ema_half_lives, dtype=np.float64))
        self._gain_S1 = (1.0 - self._decay_S[:, None]).astype(np.float32)
        self._window = config.train_chunk_length if config.attention else 0
        if config.attention:
            names = ("attention.key", "attention.value")
            self._remember_MH = np.concatenate([arrays[f"{name}.weight"] for name in names])
            self._remember_M = np.concatenate([arrays[f"{name}.bias"] for name in names])
            self._key_dim = len(arrays["attention.key.bias"])

    def start(self) -> State:
        """The memory of a sequence in which nothing has been watched yet."""
        shape = self.config.hidden_dim
        hidden = [np.zeros((cell.n_parts, shape), np.float32) for cell in self._cells]
        means_SD = np.zeros((len(self._decay_S), self.item_embeddings_ND.shape[1]), np.float32)
        width = len(self._remember_M) if self._window else 0
        return State(hidden, means_SD, np.empty((min(self._window, 4), width), np.float32))

    def step(self, memory: State, items: Sequence[int] | NDArray[np.integer]) -> State:
        """Watch further items; `memory` is changed, and given back.

        The cost of each does not depend on how many came before.
        """
        if not len(items):
            return memory
        input_LD = self._norm(self.item_embeddings_ND[items], "input_norm")
        x_LH = input_LD
        for index, (cell, state) in enumerate(zip(self._cells, memory.hidden, strict=True)):
            y_LH = cell.run(x_LH, state)
            x_LH = x_LH + y_LH if index else y_LH
        if self._window:
            self._remember(memory, x_LH)
        self._fade(memory, input_LD)
        memory.n_steps += len(items)
        found_D = self._attend(memory, x_LH[-1]) if self._window else None
        memory.query_D = self._read_out(x_LH[-1], input_LD[-1], memory.means_SD, found_D)
        return memory

    def encode(self, history: NDArray[np.integer]) -> State:
        """The memory after a history, of which the latest `max_history` watches count."""
        return self.step(self.start(), history[-self.config.max_history :])

    def logits(self, memory: State) -> Floats:
        """Scores of all items, [N], whose softmax is the probability to be watched next.

        Before the first watch, the popularity. Watched items are not ruled out.
        """
        if memory.query_D is None:
            return self.log_popularity_N.copy()
        scores_N: Floats = np.append(memory.query_D, _ONE) @ self._scoring_CN
        return scores_N

    def batch_logits(self, histories: Sequence[NDArray[np.integer]]) -> Floats:
        """`logits` after each of several histories, gone through together, [B, N]."""
        started = np.array([len(history) > 0 for history in histories], dtype=np.bool_)
        query_BD = np.zeros((len(histories), self.item_embeddings_ND.shape[1]), np.float32)
        if started.any():
            query_BD[started] = self.encode_batch([h for h in histories if len(h)])
        return self.query_logits(query_BD, started)

    def query_logits(self, query_BD: Floats, started: NDArray[np.bool_]) -> Floats:
        """Scores of all items, [B, N], where sequences have `started`, else the popularity."""
        ones_B1 = np.ones((len(query_BD), 1), np.float32)
        logits_BN: Floats = np.hstack([query_BD, ones_B1]) @ self._scoring_CN
        logits_BN[~started] = self.log_popularity_N
        return logits_BN

    def encode_batch(self, histories: Sequence[NDArray[np.integer]]) -> Floats:
        """What is expected after each of several histories, none of them empty, [B, D].

        Of each, the latest `max_history` watches count. Sorted by length, so that at every
        step the sequences still going on are the first rows.
        """
        histories = [history[-self.config.max_history :] for history in histories]
        lengths_B = np.array([len(history) for history in histories])
        order = np.argsort(-lengths_B, kind="stable")
        lengths_B, longest = lengths_B[order], int(lengths_B.max())
        items_LB = np.zeros((longest, len(order)), np.int64)
        items_LB.T[np.arange(longest) < lengths_B[:, None]] = np.concatenate(
            [histories[row] for row in order]
        )
        input_LBD = self._norm(self.item_embeddings_ND[items_LB], "input_norm")
        states_LBH = self._run(input_LBD, lengths_B)
        last = (lengths_B - 1, np.arange(len(order)))
        means_BSD = self._fading(lengths_B, longest) @ input_LBD.swapaxes(0, 1)
        found_BD = self._attend_all(states_LBH, lengths_B) if self._window else None
        query_BD = np.empty((len(order), self.item_embeddings_ND.shape[1]), np.float32)
        query_BD[order] = self._read_out(states_LBH[last], input_LBD[last], means_BSD, found_BD)
        return query_BD

    def _run(self, input_LBD: Floats, lengths_B: NDArray[np.int64]) -> Floats:
        """The states of the top layer, [L, B, H]; those after the end of one mean nothing."""
        n_going_L = (lengths_B > np.arange(len(input_LBD))[:, None]).sum(axis=1)
        x_LBH = input_LBD
        for index, cell in enumerate(self._cells):
            y_LBH = cell.run_many(x_LBH, n_going_L)
            x_LBH = x_LBH + y_LBH if index else y_LBH
        return x_LBH

    def _fade(self, memory: State, input_LD: Floats) -> None:
        """Take further inputs into the means."""
        n_steps, means_SD = len(input_LD), memory.means_SD
        if n_steps == 1:  # streaming: two small products instead of a table of powers
            means_SD += self._gain_S1 * (input_LD - means_SD)
            return
        means_SD *= (self._decay_S[:, None] ** n_steps).astype(np.float32)
        means_SD += self._fading(np.array([n_steps]), n_steps)[0] @ input_LD

    def _fading(self, lengths_B: NDArray[np.int64], longest: int) -> Floats:
        """What each input weighs in the means after the last one, [B, S, L]; after it, nothing."""
        ago_BL = lengths_B[:, None] - 1 - np.arange(longest)
        decay_S1 = self._decay_S[:, None]
        weights_BSL = (1.0 - decay_S1) * decay_S1 ** np.maximum(ago_BL, 0)[:, None]
        weights: Floats = np.where(ago_BL[:, None] >= 0, weights_BSL, 0.0).astype(np.float32)
        return weights

    def _read_out(
        self, x_H: Floats, input_D: Floats, means_SD: Floats, found_D: Floats | None
    ) -> Floats:
        """The point among the item vectors where the next item is expected, over temperature.

        Of one sequence, or of several with a leading axis.
        """
        query_D = self._linear(x_H, "output")
        means_F = means_SD.reshape(*input_D.shape[:-1], -1)
        features_F = np.concatenate([input_D, means_F], axis=-1)
        query_D += features_F @ self._arrays["shortcut.weight"].T
        if found_D is not None:
            query_D += found_D
        if self.config.feed_forward:
            normed_D = self._norm(query_D, "feed_forward.norm")
            inner_F = _gelu(self._linear(normed_D, "feed_forward.expand"))
            query_D += self._linear(inner_F, "feed_forward.contract")
        query_D *= self._scale
        return query_D

    def _remember(self, memory: State, x_LH: Floats) -> None:
        """Keep key and value of the latest states, the oldest overwritten."""
        latest_LH = x_LH[-self._window :]
        rows_LM = latest_LH @ self._remember_MH.T + self._remember_M
        first = memory.n_steps + len(x_LH) - len(latest_LH)
        last = first + len(latest_LH)
        if len(memory.past_PM) < min(last, self._window):
            size = min(max(last, 2 * len(memory.past_PM)), self._window)
            grown_PM = np.empty((size, rows_LM.shape[1]), np.float32)
            grown_PM[: len(memory.past_PM)] = memory.past_PM
            memory.past_PM = grown_PM
        memory.past_PM[np.arange(first, last) % self._window] = rows_LM

    def _attend(self, memory: State, x_H: Floats) -> Floats:
        """Scaled dot-product attention of the latest state over the remembered ones, [D]."""
        query_K = self._linear(x_H, "attention.query")
        known = memory.past_PM[: memory.n_steps]  # the rows beyond the first P are none
        found_P = known[:, : self._key_dim] @ query_K
        found_P *= np.float32(self._key_dim**-0.5)
        found_P -= found_P.max()
        np.exp(found_P, out=found_P)
        value_D: Floats = (found_P @ known[:, self._key_dim :]) / found_P.sum()
        return value_D

    def _attend_all(self, states_LBH: Floats, lengths_B: NDArray[np.int64]) -> Floats:
        """`_attend` for each sequence's last state, [B, D]."""
        longest, n_sequences, _ = states_LBH.shape
        last_BH = states_LBH[lengths_B - 1, np.arange(n_sequences)]
        query_BK = self._linear(last_BH, "attention.query")
        known_LBM = states_LBH @ self._remember_MH.T + self._remember_M
        known_BLM = known_LBM.swapaxes(0, 1)
        found_BL = (known_BLM[:, :, : self._key_dim] @ query_BK[:, :, None])[:, :, 0]
        found_BL *= np.float32(self._key_dim**-0.5)
        ago_BL = lengths_B[:, None] - 1 - np.arange(longest)
        found_BL[(ago_BL < 0) | (ago_BL >= self._window)] = -np.inf
        found_BL = np.exp(found_BL - found_BL.max(axis=1, keepdims=True))
        found_BL /= found_BL.sum(axis=1, keepdims=True)
        value_BD: Floats = (found_BL[:, None] @ known_BLM[:, :, self._key_dim :])[:, 0]
        return value_BD

    def _linear(self, x: Floats, name: str) -> Floats:
        y: Floats = x @ self._arrays[f"{name}.weight"].T
        y += self._arrays[f"{name}.bias"]
        return y

    def _norm(self, x: Floats, name: str) -> Floats:
        """LayerNorm over the last axis."""
        share = np.float32(1.0 / x.shape[-1])  # of short rows a sum is sooner had than a mean
        centred = x - share * x.sum(axis=-1, keepdims=True)
        variance = share * (centred * centred).sum(axis=-1, keepdims=True)
        normed: Floats = centred / np.sqrt(variance + np.float32(_EPSILON))
        normed *= self._arrays[f"{name}.weight"]
        normed += self._arrays[f"{name}.bias"]
        return normed


def _normalised(logits_N: Floats) -> Floats:
    highest = logits_N.max()
    result: Floats = logits_N - (highest + np.log(np.exp(logits_N - highest).sum()))
    return result


def _beside(item_embeddings_ND: Floats, bias_N: Floats) -> Floats:
    """The vectors' features and the biases, one after the other, [D + 1, N]."""
    n_items, dim = item_embeddings_ND.shape
    scoring_CN = np.empty((dim + 1, n_items), np.float32)
    for start in range(0, n_items, _PIECE):
        some = slice(start, start + _PIECE)
        scoring_CN[:dim, some] = item_embeddings_ND[some].T
    scoring_CN[dim] = bias_N
    return scoring_CN


def _gelu(x: Floats) -> Floats:
    """The function x Φ(x), exactly (Hendrycks & Gimpel 2016)."""
    result: Floats = (0.5 * x * (1.0 + erf(x * _SQRT_HALF))).astype(np.float32, copy=False)
    return result
