"""The session model in numpy: its parameters as arrays, and the network computed from them.

For single requests this is faster than torch, whose call overhead exceeds the computation, and it
does not import torch.

Shapes: B sequences, L steps, P past states, M size of a past state, D embedding, H hidden, K key,
S half-lives, F features, N items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from recsys.sessions.cells import CELLS, Floats
from recsys.sessions.config import KEY_DIM, SessionConfig
from recsys.vocabulary import Vocabulary

if TYPE_CHECKING:
    from recsys.sessions.model import SessionModel

_EPSILON = 1e-5  # as in nn.LayerNorm
_ONE = np.float32(1.0)
_BLOCK = 512  # items whose embeddings fit the cache twice
_SQRT_HALF = np.float32(0.5**0.5)


@dataclass(frozen=True, eq=False)
class Weights:
    """The parameters of a session model."""

    config: SessionConfig
    arrays: Mapping[str, NDArray[Any]]  # by the names of `SessionNetwork.state_dict()`

    def require_shapes(self, n_items: int) -> None:
        """Raise ValueError unless the arrays match the configuration and the catalogue."""
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
    shapes: dict[str, tuple[int, ...]] = {
        "item_embeddings.weight": (n_items + 1, d),
        "item_bias": (n_items,),
        "log_popularity": (n_items,),
        "ema_features.weight": (d, (1 + len(config.ema_half_lives)) * d),
        **_affine("input_norm", d),
        **_affine("output", d, h),
    }
    if config.attention:
        for part, rows in (("key", KEY_DIM), ("query", KEY_DIM), ("value", d)):
            shapes |= _affine(f"attention.{part}", rows, h)
    if config.feed_forward:
        inner = config.feed_forward * d
        shapes |= _affine("feed_forward.norm", d)
        shapes |= _affine("feed_forward.expand", inner, d)
        shapes |= _affine("feed_forward.contract", d, inner)
    gates = CELLS[config.cell].n_gates * h
    for layer in range(config.n_layers):
        for kind, columns in (("ih", h if layer else d), ("hh", h)):
            shapes[f"layers.{layer}.weight_{kind}_l0"] = (gates, columns)
            shapes[f"layers.{layer}.bias_{kind}_l0"] = (gates,)
    return shapes


def _affine(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def from_torch(model: SessionModel) -> Weights:
    """The parameters of a model; on a CPU they share its memory."""
    state = model.network.state_dict()
    return Weights(model.config, {name: p.detach().cpu().numpy() for name, p in state.items()})


def to_torch(weights: Weights, items: Vocabulary) -> SessionModel:
    """The torch model with these parameters, on the CPU."""
    import torch

    from recsys.sessions.model import SessionModel
    from recsys.sessions.network import SessionNetwork

    network = SessionNetwork(len(items), weights.config)
    # Copies: arrays read from a file may be read-only, and a network may be trained.
    network.load_state_dict(
        {name: torch.from_numpy(np.array(array)) for name, array in weights.arrays.items()}
    )
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
    """The network of a session model in numpy.

    Args:
        weights: the parameters of the model.
    """

    def __init__(self, weights: Weights) -> None:
        arrays, config = weights.arrays, weights.config
        self.config = config
        self.n_items = len(arrays["item_bias"])
        self.item_embeddings_ND: Floats = arrays["item_embeddings.weight"][: self.n_items]
        # Transposed and with the bias as a last row: twice as fast for a single query.
        self._output_CN = _transpose_with_bias(self.item_embeddings_ND, arrays["item_bias"])
        log_popularity_N = arrays["log_popularity"]
        self.log_popularity_N: Floats = log_popularity_N - log_sum_exp(log_popularity_N[None])[0]
        self._arrays = arrays
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        self._layers = [
            CELLS[config.cell].numpy_layer(*(arrays[f"layers.{layer}.{name}"] for name in names))
            for layer in range(config.n_layers)
        ]
        self._decay_S = 0.5 ** (1.0 / np.array(config.ema_half_lives, dtype=np.float64))
        self._gain_S1 = (1.0 - self._decay_S[:, None]).astype(np.float32)
        self._window = config.train_chunk_length if config.attention else 0
        if config.attention:
            parts = ("attention.key", "attention.value")
            self._past_weight_MH = np.concatenate([arrays[f"{name}.weight"] for name in parts])
            self._past_bias_M = np.concatenate([arrays[f"{name}.bias"] for name in parts])

    def start(self) -> State:
        """The state of an empty sequence."""
        h = self.config.hidden_dim
        hidden = [np.zeros((layer.n_parts, h), np.float32) for layer in self._layers]
        emas_SD = np.zeros((len(self._decay_S), self.item_embeddings_ND.shape[1]), np.float32)
        width = len(self._past_bias_M) if self._window else 0
        return State(hidden, emas_SD, np.empty((min(self._window, 4), width), np.float32))

    def step(self, state: State, items: Sequence[int] | NDArray[np.integer]) -> State:
        """Append items to a sequence; `state` is changed in place and returned.

        The cost per item does not depend on the length of the sequence.
        """
        if not len(items):
            return state
        input_LD = self._norm(self.item_embeddings_ND[items], "input_norm")
        x_LH = input_LD
        for index, (layer, hidden) in enumerate(zip(self._layers, state.hidden, strict=True)):
            y_LH = layer.run(x_LH, hidden)
            x_LH = x_LH + y_LH if index else y_LH
        if self._window:
            self._append_past(state, x_LH)
        self._update_emas(state, input_LD)
        state.n_steps += len(items)
        attended_D = self._attend(state, x_LH[-1]) if self._window else None
        state.query = self._head(x_LH[-1], input_LD[-1], state.emas, attended_D)
        return state

    def encode(self, history: NDArray[np.integer]) -> State:
        """The state after the latest `max_history` items of a history."""
        return self.step(self.start(), history[-self.config.max_history :])

    def logits(self, state: State) -> Floats:
        """Logits of all items, [N], including those of the sequence.

        They are the log-popularity for an empty sequence.
        """
        if state.query is None:
            return self.log_popularity_N.copy()
        logits_N: Floats = np.append(state.query, _ONE) @ self._output_CN
        return logits_N

    def encode_batch(self, histories: Sequence[NDArray[np.integer]]) -> Floats:
        """The query vectors after the latest `max_history` items of each history, [B, D].

        No history may be empty. Sorted by length, so that the sequences that take part in a step
        are the first rows.
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
        n_active_L = (lengths_B > np.arange(longest)[:, None]).sum(axis=1)
        x_LBH = input_LBD
        for index, layer in enumerate(self._layers):
            y_LBH = layer.run_batch(x_LBH, n_active_L)
            x_LBH = x_LBH + y_LBH if index else y_LBH
        last = (lengths_B - 1, np.arange(len(order)))
        emas_BSD = self._ema_weights(lengths_B, longest) @ input_LBD.swapaxes(0, 1)
        attended_BD = self._attend_batch(x_LBH, lengths_B) if self._window else None
        query_BD = np.empty((len(order), self.item_embeddings_ND.shape[1]), np.float32)
        query_BD[order] = self._head(x_LBH[last], input_LBD[last], emas_BSD, attended_BD)
        return query_BD

    def query_logits(self, query_BD: Floats, has_history_B: NDArray[np.bool_]) -> Floats:
        """Logits of all items for query vectors, [B, N]; log-popularity without a history."""
        ones_B1 = np.ones((len(query_BD), 1), np.float32)
        logits_BN: Floats = np.hstack([query_BD, ones_B1]) @ self._output_CN
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

    def _update_emas(self, state: State, input_LD: Floats) -> None:
        n_steps, emas_SD = len(input_LD), state.emas
        if n_steps == 1:  # streaming: cheaper than a table of powers
            emas_SD += self._gain_S1 * (input_LD - emas_SD)
            return
        emas_SD *= (self._decay_S[:, None] ** n_steps).astype(np.float32)
        emas_SD += self._ema_weights(np.array([n_steps]), n_steps)[0] @ input_LD

    def _ema_weights(self, lengths_B: NDArray[np.int64], longest: int) -> Floats:
        """Weight of each input in the averages after the last one, [B, S, L]; zero past it."""
        age_BL = lengths_B[:, None] - 1 - np.arange(longest)
        decay_S1 = self._decay_S[:, None]
        weights_BSL = (1.0 - decay_S1) * decay_S1 ** np.maximum(age_BL, 0)[:, None]
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

    def _append_past(self, state: State, x_LH: Floats) -> None:
        """Store the keys and values of the latest states, overwriting the oldest."""
        latest_LH = x_LH[-self._window :]
        rows_LM = latest_LH @ self._past_weight_MH.T + self._past_bias_M
        first = state.n_steps + len(x_LH) - len(latest_LH)
        last = first + len(latest_LH)
        if len(state.past) < min(last, self._window):
            size = min(max(last, 2 * len(state.past)), self._window)
            grown_PM = np.empty((size, rows_LM.shape[1]), np.float32)
            grown_PM[: len(state.past)] = state.past
            state.past = grown_PM
        state.past[np.arange(first, last) % self._window] = rows_LM

    def _attend(self, state: State, x_H: Floats) -> Floats:
        """Scaled dot-product attention of the latest state over the past, [D]."""
        query_K = self._linear(x_H, "attention.query")
        past_PM = state.past[: state.n_steps]  # further rows are not filled yet
        weights_P = past_PM[:, :KEY_DIM] @ query_K
        weights_P *= np.float32(KEY_DIM**-0.5)
        weights_P -= weights_P.max()
        np.exp(weights_P, out=weights_P)
        attended_D: Floats = (weights_P @ past_PM[:, KEY_DIM:]) / weights_P.sum()
        return attended_D

    def _attend_batch(self, states_LBH: Floats, lengths_B: NDArray[np.int64]) -> Floats:
        """`_attend` for the last state of each sequence, [B, D]."""
        longest, n_sequences, _ = states_LBH.shape
        last_BH = states_LBH[lengths_B - 1, np.arange(n_sequences)]
        query_BK = self._linear(last_BH, "attention.query")
        past_LBM = states_LBH @ self._past_weight_MH.T + self._past_bias_M
        past_BLM = past_LBM.swapaxes(0, 1)
        weights_BL = (past_BLM[:, :, :KEY_DIM] @ query_BK[:, :, None])[:, :, 0]
        weights_BL *= np.float32(KEY_DIM**-0.5)
        age_BL = lengths_B[:, None] - 1 - np.arange(longest)
        weights_BL[(age_BL < 0) | (age_BL >= self._window)] = -np.inf
        weights_BL = np.exp(weights_BL - weights_BL.max(axis=1, keepdims=True))
        weights_BL /= weights_BL.sum(axis=1, keepdims=True)
        attended_BD: Floats = (weights_BL[:, None] @ past_BLM[:, :, KEY_DIM:])[:, 0]
        return attended_BD

    def _linear(self, x: Floats, name: str) -> Floats:
        y: Floats = x @ self._arrays[f"{name}.weight"].T
        y += self._arrays[f"{name}.bias"]
        return y

    def _norm(self, x: Floats, name: str) -> Floats:
        """LayerNorm over the last axis."""
        scale = np.float32(1.0 / x.shape[-1])  # for short rows, sum is faster than mean
        centred = x - scale * x.sum(axis=-1, keepdims=True)
        variance = scale * (centred * centred).sum(axis=-1, keepdims=True)
        normed: Floats = centred / np.sqrt(variance + np.float32(_EPSILON))
        normed *= self._arrays[f"{name}.weight"]
        normed += self._arrays[f"{name}.bias"]
        return normed


@dataclass(frozen=True, eq=False)
class NumpySequences:
    """Sequences being decoded; see `recsys.sessions.decode.Sequences`."""

    model: NumpySessionModel
    states: tuple[State, ...]
    items: tuple[tuple[int, ...], ...]  # history and decoded items of each sequence

    def log_probabilities(self) -> Floats:
        """Of each item as the next, [B, N]; minus infinity for items of the sequence."""
        scores_BN = np.stack([self.model.logits(state) for state in self.states])
        seen_BN = np.zeros(scores_BN.shape, np.bool_)
        for seen_N, items in zip(seen_BN, self.items, strict=True):
            seen_N[list(items)] = True
        if self.model.config.exclude_seen:
            scores_BN[seen_BN] = -np.inf
        scores_BN -= log_sum_exp(scores_BN)
        scores_BN[seen_BN] = -np.inf
        return scores_BN

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


def _transpose_with_bias(embeddings_ND: Floats, bias_N: Floats) -> Floats:
    """The transposed embeddings and, as a last row, the biases, [D + 1, N]."""
    n_items, dim = embeddings_ND.shape
    output_CN = np.empty((dim + 1, n_items), np.float32)
    for start in range(0, n_items, _BLOCK):
        block = slice(start, start + _BLOCK)
        output_CN[:dim, block] = embeddings_ND[block].T
    output_CN[dim] = bias_N
    return output_CN
