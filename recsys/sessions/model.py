"""A trained session model: scores the whole catalogue for the next item.

Shapes: B batch, L steps, D embedding, N items.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.arguments import (
    require,
    require_type,
    to_array,
    to_histories,
    to_indices,
    to_int,
    to_path,
)
from recsys.errors import ConfigError, DataError, QueryError
from recsys.sessions.batches import batches_by_length, pad
from recsys.sessions.config import SessionConfig
from recsys.sessions.network import NetworkState, SessionNetwork
from recsys.storage import atomic_file, require_new
from recsys.vocabulary import Vocabulary

_MAX_BINS = 1_000_000

_SEGMENT = 256
"""Steps processed at once, which bounds the memory for long histories."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SessionState:
    """The state of sessions, which `step` continues without their histories."""

    network: NetworkState | None  # None before the first item
    seen: Tensor  # items of each session, bool [B, n_items]


@dataclass(frozen=True, eq=False)
class SessionModel:
    """A trained network and the items that it ranks."""

    network: SessionNetwork
    items: Vocabulary

    def __repr__(self) -> str:
        n_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        kind = f"{self.config.cell} with {n_parameters:,} parameters"
        return f"<SessionModel of {self.n_items:,} items: {kind}>"

    @property
    def config(self) -> SessionConfig:
        """The configuration of the network."""
        return self.network.config

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    @property
    def repeats(self) -> bool:
        """Whether an item of the history may come next; otherwise it has probability zero."""
        return self.network.repeats

    def score(
        self, histories: Sequence[NDArray[np.int32]], batch_size: int = 128
    ) -> NDArray[np.float32]:
        """Log-probability that each item comes next, [B, n_items].

        Histories contain item indices, oldest first; `batch_size` of them are scored at once. Items
        of the history have probability zero unless the model `repeats`. Items that the model does
        not know (index −1 or beyond the catalogue) are ignored with a warning in the log. For an
        empty history, the probability is the popularity.
        """
        histories = to_histories("histories", histories, QueryError)
        batch_size = to_int("batch_size", batch_size, error=QueryError)
        known = [history[(history >= 0) & (history < self.n_items)] for history in histories]
        n_unknown = sum(map(len, histories)) - sum(map(len, known))
        if n_unknown:
            _logger.warning("ignored %d interactions with items unknown to the model", n_unknown)
        scores = np.empty((len(histories), self.n_items), dtype=np.float32)
        with self._inference():
            for rows, batch in batches_by_length(known, self.config.max_history, batch_size):
                seen_BN = torch.zeros(len(rows), self.n_items, dtype=torch.bool)
                for seen_N, row in zip(seen_BN.numpy(), rows, strict=True):
                    seen_N[known[row]] = True
                logits_BN = self._logits(batch)
                log_p_BN = self._log_probability(logits_BN, seen_BN.to(logits_BN.device))
                scores[rows] = log_p_BN.cpu().numpy()
        return scores

    def start(self, n_sessions: int = 1) -> SessionState:
        """The state of empty sessions."""
        seen_BN = self.network.item_bias.new_zeros(n_sessions, self.n_items, dtype=torch.bool)
        return SessionState(None, seen_BN)

    def step(self, state: SessionState, item: int) -> tuple[SessionState, NDArray[np.float32]]:
        """Append an item to a session, at a cost that does not depend on its length.

        Returns the new state and the log-probability that each item comes next, [n_items], which
        equals that of `score` for the whole history, up to `max_history` items. The given state is
        not changed.

        Raises:
            QueryError: the item index is out of range.
        """
        require(SessionState, QueryError, state=state)
        item = to_int("item", item, 0, self.n_items - 1, QueryError)
        state, scores_BN = self.step_batch(state, torch.tensor([item]))
        return state, scores_BN[0].cpu().numpy()

    def step_batch(self, state: SessionState, items_B: Tensor) -> tuple[SessionState, Tensor]:
        """`step` for several sessions, with an item each; the scores are [B, n_items]."""
        items_B = items_B.to(self.network.item_bias.device)
        with self._inference():
            query_BLD, network_state = self.network.step(items_B[:, None], state.network)
            seen_BN = state.seen.scatter(1, items_B[:, None], value=True)
            scores_BN = self._log_probability(self.network.logits(query_BLD[:, 0]), seen_BN)
            return SessionState(network_state, seen_BN), scores_BN

    def sequences(self, history: NDArray[np.integer]) -> TorchSequences:
        """The history as a sequence to decode from; see `recsys.sessions.decode`."""
        state, scores_BN = self.start(), self.network.log_popularity.log_softmax(0)[None]
        for item in history.tolist():
            state, scores_BN = self.step_batch(state, torch.tensor([item]))
        return TorchSequences(self, state, scores_BN)

    def _log_probability(self, logits_BN: Tensor, seen_BN: Tensor) -> Tensor:
        logits_BN = logits_BN.float()
        if self.repeats:
            return logits_BN.log_softmax(1)
        log_p_BN = logits_BN.masked_fill(seen_BN, -torch.inf).log_softmax(1)
        return log_p_BN.masked_fill(seen_BN, -torch.inf)  # NaN if all items are seen

    def _logits(self, histories: Sequence[NDArray[np.int32]]) -> Tensor:
        """Scores of all items after each history, [B, N]; log-popularity if it is empty."""
        network, state = self.network, None
        device, dim = network.item_bias.device, network.item_embeddings.embedding_dim
        items_BL = torch.from_numpy(pad(histories, self.n_items)).to(device)
        last_B = torch.tensor([len(history) - 1 for history in histories], device=device)
        query_BD = torch.zeros(len(histories), dim, device=device)
        # Padding follows the last item and does not affect its state.
        for start in range(0, items_BL.shape[1], _SEGMENT):
            steps, state = network.run_rnn(items_BL[:, start : start + _SEGMENT], state)
            step_B = last_B - start
            found_BD = network.head(steps, step_B.clamp(0, steps.inputs.shape[1] - 1))
            ends_here_B1 = ((step_B >= 0) & (step_B < _SEGMENT))[:, None]
            query_BD = torch.where(ends_here_B1, found_BD.to(query_BD.dtype), query_BD)
        logits_BN = network.logits(query_BD)
        return torch.where((last_B >= 0)[:, None], logits_BN, network.log_popularity)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Disable gradients and dropout; the mode of the network is restored."""
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.network.train(was_training)


@dataclass(frozen=True, eq=False)
class TorchSequences:
    """Sequences being decoded by `recsys.sessions.decode`."""

    model: SessionModel
    state: SessionState
    scores: Tensor  # log-probabilities of the next items, [B, N]

    def log_probabilities(self) -> NDArray[np.float32]:
        """Log-probability that each item comes next, [B, N]."""
        if self.model.repeats:
            return self.scores.cpu().numpy().copy()
        return self.scores.masked_fill(self.state.seen, -torch.inf).cpu().numpy()

    def extend(self, parent_B: NDArray[np.int64], item_B: NDArray[np.int64]) -> TorchSequences:
        """The sequences at `parent_B`, each with one more item."""
        parents = torch.from_numpy(parent_B).to(self.state.seen.device)
        network_state = self.state.network and self.state.network.select(parents)
        parent_state = SessionState(network_state, self.state.seen[parents])
        state, scores_BN = self.model.step_batch(parent_state, torch.from_numpy(item_B))
        return TorchSequences(self.model, state, scores_BN)


class _Scorer(nn.Module):
    """`SessionModel.score` for a padded batch."""

    def __init__(self, network: SessionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        steps, _ = self.network.run_rnn(items_BL)
        logits_BN = self.network.logits(self.network.head(steps, lengths_B - 1))
        if not self.network.repeats:
            # Padding marks an extra column.
            seen_BN = torch.zeros_like(logits_BN[:, :1]).expand(-1, self.network.n_items + 1)
            seen_BN = seen_BN.scatter(1, items_BL, 1.0)[:, :-1]
            logits_BN = logits_BN.masked_fill(seen_BN > 0, -torch.inf)
        return logits_BN.log_softmax(1)


def export_scorer(model: SessionModel, path: Path | str, length: int = 50) -> Path:
    """Write the scoring of histories atomically as a `.pt2` file that runs without this library.

    The file is for `torch.export.load` and AOTInductor, on the device of the model. The program
    takes `items` (int64, [B, length], padded at the end with `n_items`) and `lengths` (int64, [B],
    1 to `length`) and returns the log-probabilities of `SessionModel.score` (float32,
    [B, n_items]). B is dynamic; `length`, the maximum length of a history, is fixed, because the
    steps are unrolled.
    """
    require_type(model, SessionModel, "fit_session_model")
    length, path = to_int("length", length), to_path(path, ConfigError)
    require_new(path)
    scorer = _Scorer(model.network).eval()
    device = model.network.item_bias.device
    items_BL = torch.zeros(2, length, dtype=torch.int64, device=device)
    lengths_B = torch.ones(2, dtype=torch.int64, device=device)
    shapes = {name: {0: torch.export.Dim.DYNAMIC} for name in ("items_BL", "lengths_B")}
    with warnings.catch_warnings():
        # Recurrent layers flatten their weights during the export.
        warnings.filterwarnings("ignore", "The tensor attributes? self.network.layers")
        program = torch.export.export(scorer, (items_BL, lengths_B), dynamic_shapes=shapes)
    with atomic_file(path) as tmp_path:
        torch.export.save(program, tmp_path)
    return path


def expected_calibration_error(
    scores_BN: NDArray[np.float32], targets_B: NDArray[np.integer], n_bins: int = 15
) -> float:
    """Expected calibration error of the top-ranked item (Guo et al. 2017, eq. 5).

    The mean over bins of probability of |accuracy − mean probability|, weighted by size. Targets
    with probability zero, such as items of the history, are left out.
    """
    scores_BN = to_array("scores_BN", scores_BN, "f", None, None)
    targets_B = to_indices("targets_B", targets_B, scores_BN.shape[1])
    n_bins = to_int("n_bins", n_bins, high=_MAX_BINS)
    if len(targets_B) != len(scores_BN):
        raise ConfigError(f"there are {len(targets_B)} targets_B for {len(scores_BN)} scores_BN")
    possible_B = np.isfinite(scores_BN[np.arange(len(targets_B)), targets_B])
    if not possible_B.any():
        raise DataError("there is nothing to calibrate on: every target has probability zero")
    confidence = np.exp(scores_BN[possible_B].max(1))
    is_right = scores_BN[possible_B].argmax(1) == targets_B[possible_B]
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, is_right, n_bins) - np.bincount(bins, confidence, n_bins)
    return float(np.abs(gaps).sum() / len(confidence))
