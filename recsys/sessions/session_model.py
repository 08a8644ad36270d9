"""A trained session model: scores the whole catalogue for what comes next.

Shapes: B batch, L steps, D embedding, N items.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.sessions.batches import by_length, pad
from recsys.sessions.config import SessionConfig
from recsys.sessions.network import SessionNetwork
from recsys.sessions.recurrent import Memory
from recsys.vocabulary import Vocabulary

_SEGMENT = 256
"""Steps taken at once: longer histories are gone through in segments, in bounded memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SessionState:
    """Where sessions stand: what `step` carries on instead of their whole history."""

    memory: Memory | None
    """None before the first watch."""
    seen: Tensor
    """Which items have been watched, bool [B, n_items]."""


@dataclass(frozen=True, eq=False)
class SessionModel:
    """A network that has learned what is watched after what."""

    network: SessionNetwork
    items: Vocabulary

    @property
    def config(self) -> SessionConfig:
        """The hyper-parameters of the network."""
        return self.network.config

    def score(
        self, histories: Sequence[NDArray[np.int32]], batch_size: int = 128
    ) -> NDArray[np.float32]:
        """Log-probability of each item to be watched next.

        Items that are already watched have probability zero, unless `exclude_seen` is off.
        Watches of items that the model does not know (an index of −1, or beyond the
        catalogue) are left out, and logged. An empty history is answered by popularity.

        Args:
            histories: item indices, oldest first.
            batch_size: histories scored at once.

        Returns:
            One row per history, [B, n_items].
        """
        known = self._known(histories)
        scores = np.empty((len(histories), len(self.items)), dtype=np.float32)
        with self._scoring():
            for rows, batch in by_length(known, self.config.max_history, batch_size):
                if len(batch[-1]):
                    expected_BD, started_B = self._after_last(batch)
                    logits_BN = self.network.logits(expected_BD)
                    logits_BN = torch.where(started_B, logits_BN, self.network.log_popularity)
                else:
                    logits_BN = self.network.log_popularity.expand(len(batch), -1)
                seen_BN = self._seen([known[row] for row in rows])
                scores[rows] = self._log_probability(logits_BN, seen_BN).cpu().numpy()
        return scores

    def start(self, n_sessions: int = 1) -> SessionState:
        """The state of sessions in which nothing has been watched yet."""
        device = self.network.item_bias.device
        shape = (n_sessions, len(self.items))
        return SessionState(None, torch.zeros(shape, dtype=torch.bool, device=device))

    def step(self, state: SessionState, item: int) -> tuple[SessionState, NDArray[np.float32]]:
        """Watch one more item, at a cost that does not depend on how many came before.

        The scores equal those of `score` for the whole history, as long as this is no longer
        than `max_history`.

        Args:
            state: of one session; it is not changed.
            item: the index of the item.

        Returns:
            The new state, and the log-probability of each item to be watched next, [n_items].

        Raises:
            ValueError: there is no such item.
        """
        if not 0 <= item < len(self.items):
            raise ValueError(f"there is no item {item}: indices go from 0 to {len(self.items) - 1}")
        state, scores_BN = self.advance(state, torch.tensor([item]))
        return state, scores_BN[0].cpu().numpy()

    def advance(self, state: SessionState, items_B: Tensor) -> tuple[SessionState, Tensor]:
        """`step` for several sessions at once, an item each; scores are [B, n_items]."""
        items_B = items_B.to(self.network.item_bias.device)
        with self._scoring():
            expected_BLD, memory = self.network.advance(items_B[:, None], state.memory)
            seen_BN = state.seen.scatter(1, items_B[:, None], value=True)
            logits_BN = self.network.logits(expected_BLD[:, 0])
            return SessionState(memory, seen_BN), self._log_probability(logits_BN, seen_BN)

    def opening_scores(self, n_sessions: int = 1) -> Tensor:
        """Scores before anything is watched: the popularity, [B, n_items]."""
        return self.network.log_popularity.log_softmax(0).expand(n_sessions, -1)

    def _log_probability(self, logits_BN: Tensor, seen_BN: Tensor) -> Tensor:
        logits_BN = logits_BN.float() / self.network.temperature
        if not self.config.exclude_seen:
            return logits_BN.log_softmax(1)
        # The second time for a user who has seen everything: of no numbers, no softmax.
        return (
            logits_BN.masked_fill(seen_BN, -torch.inf)
            .log_softmax(1)
            .masked_fill(seen_BN, -torch.inf)
        )

    def _after_last(self, histories: Sequence[NDArray[np.int32]]) -> tuple[Tensor, Tensor]:
        """What is expected after the last watch, [B, D], and whether there was one, [B, 1]."""
        device = self.network.item_bias.device
        items_BL = torch.from_numpy(pad(histories, len(self.items))).to(device)
        last_B = torch.tensor([len(history) - 1 for history in histories], device=device)
        expected_BD = torch.zeros(
            len(histories), self.network.item_embeddings.embedding_dim, device=device
        )
        memory = None
        # Padding stands after the last watch, so the state there is not touched by it.
        for start in range(0, items_BL.shape[1], _SEGMENT):
            steps, memory = self.network.recur(items_BL[:, start : start + _SEGMENT], memory)
            place_B = last_B - start
            found_BD = self.network.read_out_at(place_B.clamp(0, steps.inputs.shape[1] - 1), steps)
            ends_here_B1 = ((place_B >= 0) & (place_B < _SEGMENT))[:, None]
            expected_BD = torch.where(ends_here_B1, found_BD.to(expected_BD.dtype), expected_BD)
        return expected_BD, (last_B >= 0)[:, None]

    def _known(self, histories: Sequence[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
        known = [history[(history >= 0) & (history < len(self.items))] for history in histories]
        n_unknown = sum(map(len, histories)) - sum(map(len, known))
        if n_unknown:
            _log.warning(
                "%d watches are of items that the model does not know: left out", n_unknown
            )
        return known

    def _seen(self, histories: Sequence[NDArray[np.int32]]) -> Tensor:
        seen_BN = np.zeros((len(histories), len(self.items)), dtype=np.bool_)
        for row, history in enumerate(histories):
            seen_BN[row, history] = True
        return torch.from_numpy(seen_BN).to(self.network.item_bias.device)

    @contextmanager
    def _scoring(self) -> Iterator[None]:
        """Without gradients and dropout; the mode of the network is put back after."""
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.network.train(was_training)
