"""The session model in numpy: faster for single requests than torch, which it does not import.

Shapes: B sequences, L steps, P past states, M size of a past state, D embedding, H hidden, K key,
S half-lives, F features, N items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from recsys.sessions.batches import pad
from recsys.sessions.cells import CELLS, Floats
from recsys.sessions.config import KEY_DIM, SessionConfig
from recsys.vocabulary import Vocabulary

if TYPE_CHECKING:
    from recsys.sessions.model import SessionModel

_EPSILON = np.float32(1e-5)  # as in nn.LayerNorm
_SQRT_HALF = np.float32(0.5**0.5)
_ATTENTION_SCALE = np.float32(KEY_DIM**-0.5)
_MIN_BATCH = 8
"""Smaller batches take longer than one sequence after another."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The parameters of a session model."""

    config: SessionConfig
    arrays: Mapping[str, NDArray[Any]]  # by the names of `SessionNetwork.state_dict()`
    repeats: bool = False  # see `SessionNetwork`

    def require_shapes(self, n_items: int) -> None:
        """Raise ValueError unless the arrays match the configuration and the catalogue."""
        if self.config.n_layers > len(self.arrays):  # it may be any number in a damaged file
            raise ValueError(f"there are no parameters of {self.config.n_layers:,} layers")
        expected = parameter_shapes(self.config, n_items)
        for name in sorted(expected.keys() | self.arrays.keys()):
            found = self.arrays[name].shape if name in self.arrays else None
            if found != expected.get(name):
                raise ValueError(
                    f"the session model's parameter {name!r} has shape {found}; its configuration "
                    f"and catalogue require {expected.get(name)}"
                )


def parameter_shapes(config: SessionConfig, n_items: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the parameters of a network with this configuration."""
    d, h = config.embedding_dim or 0, config.hidden_dim
    inner = config.feed_forward * d
    layers: dict[str, tuple[int, ...]] = {"input_norm": (d,), "output": (d, h)}
    if config.attention:
        for part, size in (("key", KEY_DIM), ("query", KEY_DIM), ("value", d)):
            layers[f"attention.{part}"] = (size, h)
    if config.feed_forward:
        layers["feed_forward.norm"] = (d,)
        layers["feed_forward.expand"] = (inner, d)
        layers["feed_forward.contract"] = (d, inner)
    shapes: dict[str, tuple[int, ...]] = {
        "item_embeddings.weight": (n_items + 1, d),
        "item_bias": (n_items,),
        "log_popularity": (n_items,),
        "ema_features.weight": (d, (1 + len(config.ema_half_lives)) * d),
    }
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    gates = CELLS[config.cell].n_gates * h
    for layer in range(config.n_layers):
        for kind, columns in (("ih", h if layer else d), ("hh", h)):
            shapes[f"layers.{layer}.weight_{kind}_l0"] = (gates, columns)
            shapes[f"layers.{layer}.bias_{kind}_l0"] = (gates,)
    return shapes


def parameter_bytes(config: SessionConfig, n_items: int) -> int:
    """The size of the parameters of a network with this configuration."""
    shapes = parameter_shapes(config, n_items).values()
    return sum(math.prod(shape) for shape in shapes) * np.dtype(np.float32).itemsize


def from_torch(model: SessionModel) -> Weights:
    """The parameters of a model; on a CPU they share its memory."""
    state = model.network.state_dict()
    arrays = {name: p.detach().cpu().numpy() for name, p in state.items()}
    return Weights(model.config, arrays, model.repeats)


def to_torch(weights: Weights, items: Vocabulary) -> SessionModel:
    """The torch model with these parameters, on the CPU."""
    import torch

    from recsys.sessions.model import SessionModel
    from recsys.sessions.network import SessionNetwork

    network = SessionNetwork(len(items), weights.config, repeats=weights.repeats)
    # Copies: arrays read from a file may be read-only, and a network may be trained.
    state = {name: torch.from_numpy(np.array(array)) for name, array in weights.arrays.items()}
    network.load_state_dict(state)
    return SessionModel(network.eval(), items)


@dataclass(slots=True, eq=False)
class State:
    """The state of one sequence; `NumpySessionModel.step` changes it in place."""

    hidden: list[Floats]  # the state of each layer, [n_parts, H]
    emas: Floats  # moving averages of the inputs, [S, D]
    past: Floats  # keys and values of the latest states, [P, M]; a ring buffer up to the window
    n_steps: int = 0
    query: Floats | None = None  # query vector of the next item, [D]; None before the first step

    def copy(self) -> State:
        """An independent copy."""
        hidden = [part.copy() for part in self.hidden]
        return State(hidden, self.emas.copy(), self.past.copy(), self.n_steps, self.query)

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return sum(array.nbytes for array in (*self.hidden, self.emas, self.past))


class NumpySessionModel:
    """The network of a session model in numpy."""

    def __init__(self, weights: Weights) -> None:
        arrays, config = weights.arrays, weights.config
        self.config = config
        self.repeats = weights.repeats
        self.n_items = len(arrays["item_bias"])
        self.item_embeddings_ND: Floats = arrays["item_embeddings.weight"][: self.n_items]
        self.item_bias_N: Floats = arrays["item_bias"]
        # Transposed and with the bias as a last row: twice as fast for a single query.
        output_CN = np.vstack([self.item_embeddings_ND.T, arrays["item_bias"]])
        self._output_CN = np.ascontiguousarray(output_CN)
        log_popularity_N = arrays["log_popularity"]
        self.log_popularity_N: Floats = log_popularity_N - log_sum_exp(log_popularity_N[None])[0]
        self._arrays = arrays
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        self._layers = [
            CELLS[config.cell](*(arrays[f"layers.{layer}.{name}"] for name in names))
            for layer in range(config.n_layers)
        ]
        self._decay_S1 = 0.5 ** (1.0 / np.array(config.ema_half_lives, dtype=np.float64)[:, None])
        self._gain_S1 = (1.0 - self._decay_S1).astype(np.float32)
        self._window = config.train_chunk_length if config.attention else 0
        if config.attention:
            parts = ("attention.key", "attention.value")
            self._past_weight_MH = np.concatenate([arrays[f"{name}.weight"] for name in parts])
            self._past_bias_M = np.concatenate([arrays[f"{name}.bias"] for name in parts])

    def start(self) -> State:
        """The state of an empty sequence."""
        h = self.config.hidden_dim
        hidden = [np.zeros((layer.n_parts, h), np.float32) for layer in self._layers]
        emas_SD = np.zeros((len(self._decay_S1), self.item_embeddings_ND.shape[1]), np.float32)
        width = len(self._past_bias_M) if self._window else 0
        return State(hidden, emas_SD, np.empty((min(self._window, 4), width), np.float32))

    def step(self, state: State, items: Sequence[int] | NDArray[np.integer]) -> State:
        """Append items to a sequence; `state` is changed in place and returned."""
        if not len(items):
            return state
        input_LD = self._norm(self.item_embeddings_ND[items], "input_norm")
        x_LH = input_LD
        for index, (layer, hidden) in enumerate(zip(self._layers, state.hidden, strict=True)):
            y_LH = layer.run(x_LH, hidden)
            x_LH = x_LH + y_LH if index else y_LH
        n_steps, emas_SD = len(items), state.emas
        if n_steps == 1:  # streaming: cheaper than a table of powers
            emas_SD += self._gain_S1 * (input_LD - emas_SD)
        else:
            emas_SD *= (self._decay_S1**n_steps).astype(np.float32)
            emas_SD += self._ema_weights(np.array([n_steps]), n_steps)[0] @ input_LD
        state.n_steps += n_steps
        attended_D = self._attend(state, x_LH) if self._window else None
        state.query = self._head(x_LH[-1], input_LD[-1], emas_SD, attended_D)
        return state

    def encode(self, history: NDArray[np.integer]) -> State:
        """The state after the latest `max_history` items of a history."""
        return self.step(self.start(), history[-self.config.max_history :])

    def logits(self, query_D: Floats | None) -> Floats:
        """Logits of all items after a query vector, [N]; the log-popularity if it is None."""
        if query_D is None:
            return self.log_popularity_N.copy()
        logits_N: Floats = np.append(query_D, np.float32(1.0)) @ self._output_CN
        return logits_N

    def encode_batch(self, histories: Sequence[NDArray[np.integer]]) -> Floats:
        """The query vectors after each history, [B, D]; none may be empty."""
        if len(histories) < _MIN_BATCH:
            return np.array([self.encode(history).query for history in histories])
        histories = [history[-self.config.max_history :] for history in histories]
        lengths_B = np.array([len(history) for history in histories])
        # By length, so that the sequences that take part in a step are the first rows.
        order = np.argsort(-lengths_B, kind="stable")
        lengths_B, longest = lengths_B[order], int(lengths_B.max())
        items_LB = np.ascontiguousarray(pad([histories[row] for row in order], 0).T)
        input_LBD = self._norm(self.item_embeddings_ND[items_LB], "input_norm")
        n_active_L = (lengths_B > np.arange(longest)[:, None]).sum(axis=1)
        x_LBH = input_LBD
        for index, layer in enumerate(self._layers):
            y_LBH = layer.run_batch(x_LBH, n_active_L)
            x_LBH = x_LBH + y_LBH if index else y_LBH
        last = (lengths_B - 1, np.arange(len(order)))
        emas_BSD = self._ema_weights(lengths_B, longest) @ input_LBD.swapaxes(0, 1)
        attended_BD = self._attend_batch(x_LBH, lengths_B) if self._window else None
        query_BD = self._head(x_LBH[last], input_LBD[last], emas_BSD, attended_BD)
        return query_BD[np.argsort(order)]

    def query_logits(self, query_BD: Floats, has_history_B: NDArray[np.bool_]) -> Floats:
        """Logits of all items for query vectors, [B, N]; log-popularity without a history."""
        query_BC = np.hstack([query_BD, np.ones((len(query_BD), 1), np.float32)])
        logits_BN: Floats
        if len(query_BC) < _MIN_BATCH:
            logits_BN = np.empty((len(query_BC), self.n_items), np.float32)
            for query_C, logits_N in zip(query_BC, logits_BN, strict=True):
                np.matmul(query_C, self._output_CN, out=logits_N)
        else:
            logits_BN = query_BC @ self._output_CN
        logits_BN[~has_history_B] = self.log_popularity_N
        return logits_BN

    def batch_logits(self, histories: Sequence[NDArray[np.integer]]) -> Floats:
        """`logits` after each of several histories, [B, N]."""
        has_history_B = np.array([len(history) > 0 for history in histories], dtype=np.bool_)
        query_BD = np.zeros((len(histories), self.item_embeddings_ND.shape[1]), np.float32)
        if has_history_B.any():
            query_BD[has_history_B] = self.encode_batch([h for h in histories if len(h)])
        return self.query_logits(query_BD, has_history_B)

    def sequences(self, history: NDArray[np.integer]) -> NumpySequences:
        """The history as a sequence to decode from; see `recsys.sessions.decode`."""
        return NumpySequences(self, (self.encode(history),), (tuple(history.tolist()),))

    def _ema_weights(self, lengths_B: NDArray[np.int64], longest: int) -> Floats:
        """Weight of each input in the averages after the last one, [B, S, L]; zero past it."""
        age_BL = lengths_B[:, None] - 1 - np.arange(longest)
        weights_BSL = (1.0 - self._decay_S1) * self._decay_S1 ** np.maximum(age_BL, 0)[:, None]
        weights: Floats = np.where(age_BL[:, None] >= 0, weights_BSL, 0.0).astype(np.float32)
        return weights

    def _head(
        self, x_H: Floats, input_D: Floats, emas_SD: Floats, attended_D: Floats | None
    ) -> Floats:
        """The query vector of the next item; all arguments may have a leading batch axis."""
        query_D = self._linear(x_H, "output")
        emas_F = emas_SD.reshape(*input_D.shape[:-1], -1)
        features_F = np.concatenate([input_D, emas_F], axis=-1)
        query_D += features_F @ self._arrays["ema_features.weight"].T
        if attended_D is not None:
            query_D += attended_D
        if self.config.feed_forward:
            normed_D = self._norm(query_D, "feed_forward.norm")
            x_F = self._linear(normed_D, "feed_forward.expand")
            # Exact GELU, x Φ(x) (Hendrycks & Gimpel 2016).
            inner_F = (0.5 * x_F * (1.0 + erf(x_F * _SQRT_HALF))).astype(np.float32, copy=False)
            query_D += self._linear(inner_F, "feed_forward.contract")
        return query_D

    def _attend(self, state: State, x_LH: Floats) -> Floats:
        """Scaled dot-product attention of the last state over the past, [D].

        Stores the keys and values of the latest states in the ring buffer first.
        """
        latest_LH = x_LH[-self._window :]
        rows_LM = latest_LH @ self._past_weight_MH.T + self._past_bias_M
        size, n_steps = len(state.past), state.n_steps
        if size < min(n_steps, self._window):
            larger = min(max(n_steps, 2 * size), self._window)
            state.past = np.resize(state.past, (larger, rows_LM.shape[1]))
        state.past[np.arange(n_steps - len(latest_LH), n_steps) % self._window] = rows_LM
        query_K = self._linear(x_LH[-1], "attention.query")
        past_PM = state.past[:n_steps]  # further rows are not filled yet
        logits_P = (past_PM[:, :KEY_DIM] @ query_K) * _ATTENTION_SCALE
        weights_P = np.exp(logits_P - logits_P.max())
        attended_D: Floats = (weights_P @ past_PM[:, KEY_DIM:]) / weights_P.sum()
        return attended_D

    def _attend_batch(self, states_LBH: Floats, lengths_B: NDArray[np.int64]) -> Floats:
        """`_attend` for the last state of each sequence, [B, D]."""
        longest, n_sequences, _ = states_LBH.shape
        last_BH = states_LBH[lengths_B - 1, np.arange(n_sequences)]
        query_BK = self._linear(last_BH, "attention.query")
        past_BLM = (states_LBH @ self._past_weight_MH.T + self._past_bias_M).swapaxes(0, 1)
        logits_BL = (past_BLM[:, :, :KEY_DIM] @ query_BK[:, :, None])[:, :, 0] * _ATTENTION_SCALE
        age_BL = lengths_B[:, None] - 1 - np.arange(longest)
        logits_BL[(age_BL < 0) | (age_BL >= self._window)] = -np.inf
        weights_BL = np.exp(logits_BL - logits_BL.max(axis=1, keepdims=True))
        weights_BL /= weights_BL.sum(axis=1, keepdims=True)
        attended_BD: Floats = (weights_BL[:, None] @ past_BLM[:, :, KEY_DIM:])[:, 0]
        return attended_BD

    def _linear(self, x: Floats, name: str) -> Floats:
        y: Floats = x @ self._arrays[f"{name}.weight"].T + self._arrays[f"{name}.bias"]
        return y

    def _norm(self, x: Floats, name: str) -> Floats:
        """LayerNorm over the last axis."""
        scale = np.float32(1.0 / x.shape[-1])  # for short rows, sum is faster than mean
        centred = x - scale * x.sum(axis=-1, keepdims=True)
        variance = scale * (centred * centred).sum(axis=-1, keepdims=True)
        normed = centred / np.sqrt(variance + _EPSILON)
        scaled: Floats = normed * self._arrays[f"{name}.weight"] + self._arrays[f"{name}.bias"]
        return scaled


@dataclass(frozen=True, eq=False)
class NumpySequences:
    """Sequences being decoded by `recsys.sessions.decode`."""

    model: NumpySessionModel
    states: tuple[State, ...]
    items: tuple[tuple[int, ...], ...]  # history and decoded items of each sequence

    def log_probabilities(self) -> Floats:
        """Log-probability that each item comes next, [B, N]."""
        scores_BN = np.stack([self.model.logits(state.query) for state in self.states])
        if not self.model.repeats:
            for scores_N, items in zip(scores_BN, self.items, strict=True):
                scores_N[list(items)] = -np.inf
        # Items of the sequence stay at minus infinity.
        return scores_BN - log_sum_exp(scores_BN)

    def extend(self, parent_B: NDArray[np.int64], item_B: NDArray[np.int64]) -> NumpySequences:
        """The sequences at `parent_B`, each with one more item."""
        pairs = list(zip(parent_B.tolist(), item_B.tolist(), strict=True))
        states = tuple(self.model.step(self.states[p].copy(), [item]) for p, item in pairs)
        return NumpySequences(self.model, states, tuple((*self.items[p], i) for p, i in pairs))


def log_sum_exp(x_BN: Floats) -> Floats:
    """Logarithm of the sum of exponentials of each row, [B, 1]; zero if all are minus infinity."""
    max_B1 = x_BN.max(axis=1, keepdims=True)
    max_B1[max_B1 == -np.inf] = 0.0
    shifted_BN = x_BN - max_B1
    sum_B1 = np.exp(shifted_BN, out=shifted_BN).sum(axis=1, keepdims=True)
    total_B1: Floats = max_B1 + np.log(np.where(sum_B1 > 0, sum_B1, 1.0))
    return total_B1
