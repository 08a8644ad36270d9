"""How far a training has come: what each epoch gave, which was the best, when to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

MONITORED = "ndcg_at_10"
"""The validation metric that tells which epoch is the best."""


class Progress:
    """The epochs behind a training.

    Args:
        patience: stop after so many epochs without a better one; None never stops early.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.told: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_parameters: dict[str, Tensor] = {}

    @property
    def epochs_done(self) -> int:
        """Epochs behind us."""
        return len(self.told)

    def goes_on(self, epochs: int) -> bool:
        """Whether there is another epoch to train."""
        tired = (
            self.patience is not None
            and self.best_epoch > 0
            and self.epochs_done - self.best_epoch >= self.patience
        )
        return self.epochs_done < epochs and not tired

    def note(self, metrics: Mapping[str, float], network: nn.Module) -> None:
        """Remember the metrics of an epoch, and the parameters if it is the best so far."""
        self.told.append(dict(metrics))
        value = metrics.get(MONITORED)
        if value is None:
            return
        if not self.best_epoch or value > self.told[self.best_epoch - 1][MONITORED]:
            self.best_epoch = self.epochs_done
            self.best_parameters = {
                name: tensor.detach().clone() for name, tensor in network.state_dict().items()
            }

    def restore_best(self, network: nn.Module) -> None:
        """Give the network the parameters of the best epoch, where one is known."""
        if self.best_parameters:
            network.load_state_dict(self.best_parameters)

    def facts(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"told": self.told, "best_epoch": self.best_epoch}

    def restore(self, facts: Mapping[str, Any], best_parameters: Mapping[str, Tensor]) -> None:
        """Go back to what a checkpoint holds."""
        self.told = [dict(metrics) for metrics in facts["told"]]
        self.best_epoch = facts["best_epoch"]
        self.best_parameters = dict(best_parameters)
