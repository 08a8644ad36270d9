"""Watch histories cut into stretches and padded into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.data import Interactions


@dataclass(frozen=True, eq=False)
class Stretches:
    """Slices of the watch log: inputs are all but the last watch, targets all but the first."""

    start: NDArray[np.int64]
    """First row of each stretch, [n]."""
    stop: NDArray[np.int64]
    """One after its last row, [n]."""
    first: NDArray[np.int64]
    """First row of the whole history that it is cut from, [n]."""

    def __len__(self) -> int:
        """Number of stretches."""
        return len(self.start)

    def __getitem__(self, rows: NDArray[np.int64]) -> Stretches:
        """Some of them."""
        return Stretches(self.start[rows], self.stop[rows], self.first[rows])


@dataclass(frozen=True, eq=False)
class Batch:
    """Stretches, padded to the same length."""

    items: NDArray[np.int64]
    """Item indices, [B, L + 1], filled up at the end with `n_items`."""
    earlier: NDArray[np.int64]
    """What the same users had watched before, [B, P], in no order, filled up with the first watch
    of the stretch."""
    n_targets: int
    """How many watches are predicted."""


def cut_stretches(
    interactions: Interactions, max_length: int, rng: np.random.Generator
) -> Stretches:
    """Cut every history into stretches of at most `max_length` predictions each.

    Each watch but a user's first is predicted exactly once. Histories longer than `max_length`
    are cut at a random phase, so that over the epochs the cuts fall everywhere:

        watches      a b c d e f g h         max_length = 3, phase = 1
        stretches    a b c                   predicts b c
                         c d e f             predicts d e f
                               f g h         predicts g h
    """
    n_targets = interactions.history_lengths - 1
    users = np.flatnonzero(n_targets > 0)
    n_targets, first = n_targets[users], interactions.user_offsets[users]
    phase = np.where(n_targets > max_length, rng.integers(0, max_length, len(users)), 0)
    n_cuts = (n_targets - 1 + phase) // max_length + 1
    owner = np.repeat(np.arange(len(users)), n_cuts)
    ordinal = np.arange(len(owner)) - np.repeat(np.cumsum(n_cuts) - n_cuts, n_cuts)
    begin = ordinal * max_length - phase[owner]
    end = np.minimum(begin + max_length, n_targets[owner])
    first = first[owner]
    return Stretches(first + np.maximum(begin, 0), first + end + 1, first)


def training_batches(
    interactions: Interactions,
    max_length: int,
    batch_size: int | None,
    rng: np.random.Generator,
    n_processes: int = 1,
) -> list[Stretches]:
    """One epoch of batches, in random order, of stretches of similar length.

    Args:
        interactions: what to learn from.
        max_length: longest stretch, in predictions.
        batch_size: stretches per step; None chooses by the size of the data.
        rng: decides on cuts, company and order.
        n_processes: how many batches are learned from at the same step, and share its stretches.
    """
    cuts = cut_stretches(interactions, max_length, rng)
    # Neighbours in this order have lengths within some eight watches of each other; the noise
    # gives each stretch new company every epoch.
    order = np.argsort((cuts.stop - cuts.start) // 8 + 4 * rng.random(len(cuts)), kind="stable")
    batch_size = -(-(batch_size or _batch_size(len(cuts))) // n_processes)
    groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    rng.shuffle(groups)
    return [cuts[group] for group in groups]


def fill(interactions: Interactions, stretches: Stretches) -> Batch:
    """The watches of some stretches, padded."""
    log, pad_index = interactions.item_index, interactions.n_items

    def rows(begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        return pad([log[i:j] for i, j in zip(begin, end, strict=True)], pad_index)

    items = rows(stretches.start, stretches.stop)
    earlier = rows(stretches.first, stretches.start)
    return Batch(
        items,
        np.where(earlier == pad_index, items[:, :1], earlier),
        int((stretches.stop - stretches.start - 1).sum()),
    )


def _batch_size(n_stretches: int) -> int:
    """About 150 batches an epoch, of 8 to 32 stretches."""
    return min(max(n_stretches // 150, 8), 32)


def pad(histories: Sequence[NDArray[np.int32]], pad_index: int) -> NDArray[np.int64]:
    """Stack histories of any length, filled up at the end with `pad_index`: [B, longest].

    Example:
        >>> pad([np.array([4, 2]), np.array([7])], pad_index=9).tolist()
        [[4, 2], [7, 9]]
    """
    lengths = np.array([len(history) for history in histories])
    padded = np.full((len(histories), lengths.max()), pad_index, dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(histories)
    return padded


def by_length(
    histories: Sequence[NDArray[np.int32]], max_length: int, batch_size: int
) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.int32]]]]:
    """Batches of the latest `max_length` watches, similar lengths together.

    Yields:
        The positions in `histories`, [B], and the shortened histories.
    """
    recent = [history[-max_length:] for history in histories]
    order = np.argsort([len(history) for history in recent], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, [recent[row] for row in rows]
