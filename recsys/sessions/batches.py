"""Histories cut into chunks and padded into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Chunks = NDArray[np.int64]
"""Slices of the interactions, [n, 3]: the first row of the user's history, the first row of the
chunk, and one past its last row. Inputs are all items but the last, targets all but the first."""


class Histories(Protocol):
    """What a training reads of interactions."""

    @property
    def item_index(self) -> NDArray[np.int32]:
        """Item of each row, [n]."""

    @property
    def user_offsets(self) -> NDArray[np.int64]:
        """Rows of user u are `user_offsets[u]` to `user_offsets[u + 1]`, [n_users + 1]."""

    @property
    def history_lengths(self) -> NDArray[np.int64]:
        """Number of rows of each user, [n_users]."""

    @property
    def n_items(self) -> int:
        """Number of items."""


def chunk_sequences(interactions: Histories, max_length: int, rng: np.random.Generator) -> Chunks:
    """Cut every history into chunks of at most `max_length` predictions.

    Each item but a user's first is predicted exactly once. Histories longer than `max_length` are
    cut at a random phase, so that the cuts vary between epochs:

        history    a b c d e f g h         max_length = 3, phase = 1
        chunks     a b c                   predicts b c
                       c d e f             predicts d e f
                             f g h         predicts g h
    """
    n_targets = interactions.history_lengths - 1
    users = np.flatnonzero(n_targets > 0)
    n_targets, history_start = n_targets[users], interactions.user_offsets[users]
    phase = np.where(n_targets > max_length, rng.integers(0, max_length, len(users)), 0)
    n_chunks = (n_targets - 1 + phase) // max_length + 1
    user = np.repeat(np.arange(len(users)), n_chunks)
    ordinal = np.arange(len(user)) - np.repeat(np.cumsum(n_chunks) - n_chunks, n_chunks)
    begin = ordinal * max_length - phase[user]
    end = np.minimum(begin + max_length, n_targets[user])
    history_start = history_start[user]
    start, stop = history_start + np.maximum(begin, 0), history_start + end + 1
    return np.stack([history_start, start, stop], axis=1)


def training_batches(
    interactions: Histories,
    max_length: int,
    batch_size: int | None,
    rng: np.random.Generator,
) -> list[Chunks]:
    """The batches of one epoch: `batch_size` chunks of similar length each, in random order.

    None means about 150 batches, of 8 to 32 chunks.
    """
    chunks = chunk_sequences(interactions, max_length, rng)
    # By length in units of eight items; the noise changes the batches every epoch.
    noise = 4 * rng.random(len(chunks))
    order = np.argsort((chunks[:, 2] - chunks[:, 1]) // 8 + noise, kind="stable")
    if batch_size is None:
        batch_size = min(max(len(chunks) // 150, 8), 32)
    groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    rng.shuffle(groups)
    return [chunks[group] for group in groups]


def shard(batch: Chunks, rank: int, world_size: int) -> Chunks:
    """The part of a batch for one of several processes: every n-th chunk.

    The chunks of all parts have similar lengths, so that no process waits long for another. In a
    batch of fewer chunks than processes, some occur more than once.
    """
    return batch[np.arange(rank, max(len(batch), world_size), world_size) % len(batch)]


def cut_batches(
    item_index: Tensor, batches: Sequence[Chunks], pad_index: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Cut batches out of the items of all interactions, int32 [n], on their device.

    Yields item indices, [B, L + 1], padded at the end with `pad_index`; the items before each
    chunk, [B, P], padded with its first item; and the number of predictions. Shapes follow from
    the chunks, so that a GPU neither copies nor is waited for between two steps.
    """
    import torch  # not needed for scoring

    on_device = torch.from_numpy(np.concatenate(batches)).to(item_index.device)
    for chunks, chunks_B3 in zip(
        batches, torch.split(on_device, [*map(len, batches)]), strict=True
    ):
        first_B, start_B, stop_B = chunks_B3.T
        n_before, n_inside = np.diff(chunks, axis=1).max(axis=0).tolist()
        items_BL = _cut(item_index, start_B, stop_B, n_inside, pad_index)
        context_BP = _cut(item_index, first_B, start_B, n_before, pad_index)
        context_BP = torch.where(context_BP == pad_index, items_BL[:, :1], context_BP)
        yield items_BL, context_BP, int((chunks[:, 2] - chunks[:, 1] - 1).sum())


def _cut(
    item_index: Tensor, start_B: Tensor, stop_B: Tensor, length: int, pad_index: int
) -> Tensor:
    """Slices of the items, padded to a length, int64 [B, length]."""
    import torch

    rows_BL = start_B[:, None] + torch.arange(length, device=item_index.device)
    items_BL = item_index[rows_BL.clamp(max=len(item_index) - 1)].long()
    return torch.where(rows_BL < stop_B[:, None], items_BL, pad_index)


def pad(histories: Sequence[NDArray[np.int32]], pad_index: int) -> NDArray[np.int64]:
    """Stack histories of any length, padded at the end with `pad_index`: [B, longest]."""
    lengths = np.array([len(history) for history in histories])
    padded = np.full((len(histories), lengths.max()), pad_index, dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(histories)
    return padded


def batches_by_length(
    histories: Sequence[NDArray[np.int32]], max_length: int, batch_size: int
) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.int32]]]]:
    """Yield batches of similar length: positions in `histories`, [B], and the latest items."""
    recent = [history[-max_length:] for history in histories]
    order = np.argsort([len(history) for history in recent], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, [recent[row] for row in rows]
