"""What a fit tells, epoch by epoch, to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

EpochCallback = Callable[[int, Mapping[str, float]], None]
"""Called after each epoch with its number, from one, and its metrics."""


def no_op(_epoch: int, _metrics: Mapping[str, float]) -> None:
    """Listen to nothing."""


def compose(*listeners: EpochCallback) -> EpochCallback:
    """Tell several listeners, in order."""

    def tell(epoch: int, metrics: Mapping[str, float]) -> None:
        for listener in listeners:
            listener(epoch, metrics)

    return tell


class History:
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self.epochs: dict[int, dict[str, float]] = {}

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Remember the metrics of an epoch."""
        self.epochs[epoch] = dict(metrics)

    def replay(self, listener: EpochCallback) -> None:
        """Tell it all again."""
        for epoch, metrics in self.epochs.items():
            listener(epoch, metrics)

    def to_json(self) -> list[tuple[int, dict[str, float]]]:
        """As plain values, a pair for each epoch."""
        return list(self.epochs.items())

    @classmethod
    def from_json(cls, told: list[tuple[int, dict[str, float]]]) -> History:
        """What `to_json` gave."""
        history = cls()
        for epoch, metrics in told:
            history(epoch, metrics)
        return history

    def series(self, name: str) -> list[float]:
        """One metric by epoch."""
        return [metrics[name] for metrics in self.epochs.values()]
