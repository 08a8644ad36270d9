"""Callbacks that a fit calls after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

EpochCallback = Callable[[int, Mapping[str, float]], None]
"""Called after each epoch with its number, starting at 1, and its metrics."""


def no_op(_epoch: int, _metrics: Mapping[str, float]) -> None:
    """Do nothing."""


def compose(*callbacks: EpochCallback) -> EpochCallback:
    """A callback that calls several callbacks in order."""

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        for callback in callbacks:
            callback(epoch, metrics)

    return on_epoch


class History:
    """A callback that records the metrics of each epoch."""

    def __init__(self) -> None:
        self.epochs: dict[int, dict[str, float]] = {}

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an epoch."""
        self.epochs[epoch] = dict(metrics)

    def replay(self, callback: EpochCallback) -> None:
        """Call a callback for each recorded epoch."""
        for epoch, metrics in self.epochs.items():
            callback(epoch, metrics)

    def to_json(self) -> list[tuple[int, dict[str, float]]]:
        """Plain values: one (epoch, metrics) pair per epoch."""
        return list(self.epochs.items())

    @classmethod
    def from_json(cls, epochs: list[tuple[int, dict[str, float]]]) -> History:
        """The history from the result of `to_json`."""
        history = cls()
        for epoch, metrics in epochs:
            history(epoch, metrics)
        return history

    def series(self, name: str) -> list[float]:
        """The values of one metric, by epoch."""
        return [metrics[name] for metrics in self.epochs.values()]
