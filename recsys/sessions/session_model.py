"""A trained session model: scores the whole catalogue for what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.sessions.batches import by_length, pad
from recsys.sessions.config import SessionConfig
from recsys.sessions.network import LSTMNetwork
from recsys.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class SessionModel:
    """A network that has learned what is watched after what."""

    network: LSTMNetwork
    items: Vocabulary

    @property
    def config(self) -> SessionConfig:
        """The hyper-parameters of the network."""
        return self.network.config

    @torch.inference_mode()
    def score(
        self, histories: Sequence[NDArray[np.int32]], batch_size: int = 128
    ) -> NDArray[np.float32]:
        """Log-probability of each item to be watched next.

        Args:
            histories: item indices, oldest first, each at least one long.
            batch_size: histories scored at once.

        Returns:
            One row per history, [B, n_items].

        Raises:
            ValueError: a history is empty.
        """
        if any(len(history) == 0 for history in histories):
            raise ValueError("a history is empty: name at least one watched item")
        was_training = self.network.training
        self.network.eval()
        try:
            scores = np.empty((len(histories), len(self.items)), dtype=np.float32)
            for rows, batch in by_length(histories, self.config.max_history_length, batch_size):
                scores[rows] = self._score_batch(batch)
            return scores
        finally:
            self.network.train(was_training)

    def _score_batch(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        device = self.network.item_bias.device
        items_BL = torch.from_numpy(pad(histories, len(self.items))).to(device)
        last_B = torch.tensor([len(history) - 1 for history in histories], device=device)
        expected_BLD = self.network(items_BL)
        # Padding stands after the last watch, so the state there is not touched by it.
        expected_BD = expected_BLD[torch.arange(len(histories), device=device), last_B]
        logits_BN = self.network.logits(expected_BD).float()
        scores: NDArray[np.float32] = torch.log_softmax(logits_BN, dim=1).cpu().numpy()
        return scores
