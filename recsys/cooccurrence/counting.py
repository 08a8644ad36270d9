"""From interactions to counts: in memory, in row blocks on disk, or straight to neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, overload

import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config import Runtime
from recsys.cooccurrence.block_files import write_blocks
from recsys.cooccurrence.blocks import CooccurrenceBlocks
from recsys.cooccurrence.config import CooccurrenceConfig, Window
from recsys.cooccurrence.counter import Counter, make_counter
from recsys.cooccurrence.counts import Cooccurrence
from recsys.cooccurrence.rows import RowBlock, stack
from recsys.cooccurrence.sizes import format_bytes, parse_bytes
from recsys.cooccurrence.topk import keep_top_k
from recsys.cooccurrence.weightings import WeightingConfig, weight_block
from recsys.data import Interactions
from recsys.errors import ConfigError

T = TypeVar("T")

_MIN_RATING = CooccurrenceConfig().min_rating


@overload
def count_cooccurrence(
    interactions: Interactions,
    min_rating: float | None = ...,
    *,
    window: Window | None = ...,
    user_weights: NDArray[Any] | None = ...,
    memory_limit: str | int | None = ...,
    folder: None = ...,
    runtime: Runtime | None = ...,
    notify: Callable[[str], object] | None = ...,
) -> Cooccurrence: ...


@overload
def count_cooccurrence(
    interactions: Interactions,
    min_rating: float | None = ...,
    *,
    window: Window | None = ...,
    user_weights: NDArray[Any] | None = ...,
    memory_limit: str | int | None = ...,
    folder: Path | str,
    runtime: Runtime | None = ...,
    notify: Callable[[str], object] | None = ...,
) -> CooccurrenceBlocks: ...


def count_cooccurrence(
    interactions: Interactions,
    min_rating: float | None = _MIN_RATING,
    *,
    window: Window | None = None,
    user_weights: NDArray[Any] | None = None,
    memory_limit: str | int | None = None,
    folder: Path | str | None = None,
    runtime: Runtime | None = None,
    notify: Callable[[str], object] | None = None,
) -> Cooccurrence | CooccurrenceBlocks:
    """Count, for each pair of items, the users who liked both.

    A user counts once, however many rows there are of the same user and item.

    Args:
        interactions: who rated what.
        min_rating: the lowest rating that counts as "liked"; None counts every row, as does
            data without ratings.
        window: count pairs of watches within a window instead.
        user_weights: how much each user counts, whole numbers from 0, [n_users]; None counts
            each as one.
        memory_limit: the most memory, such as "2GB", to take beside the interactions.
        folder: where to write the rows of X, block by block, if X is not to be held in memory;
            a folder that is already there is replaced.
        runtime: for the number of threads, by default OMP_NUM_THREADS or all cores.
        notify: told beforehand how much memory and disk is expected to be needed.

    Returns:
        The counts; with a `folder`, a reader of its blocks.

    Raises:
        DataError: there are no interactions, no rating reaches `min_rating`, or a setting asks
            for what the data does not have.
        ConfigError: `memory_limit` is not enough.

    Example:
        >>> import pandas as pd
        >>> from recsys.data import read_ratings
        >>> log = pd.DataFrame({
        ...     "user_id": [1, 1, 1, 2, 2, 2],
        ...     "item_id": [7, 8, 9, 7, 8, 9],
        ...     "rating":  [5, 4, 1, 4, 5, 5],
        ... })
        >>> count_cooccurrence(read_ratings(log)).matrix.toarray().tolist()
        [[0, 2, 1], [2, 0, 1], [1, 1, 0]]
    """
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    counter = make_counter(
        interactions,
        min_rating,
        window=window,
        user_weights=user_weights,
        memory_limit=limit,
        runtime=runtime,
    )
    if notify is not None or limit is not None:
        _foresee(counter, None if folder is not None else limit, notify)
    if folder is not None:
        return write_blocks(Path(folder), counter)
    return Cooccurrence(
        matrix=stack(counter.map_blocks(RowBlock.copy), counter.rows),
        item_counts=counter.item_counts,
        n_users=counter.n_users,
        min_rating=counter.min_rating,
        items=counter.items,
        window=counter.window,
        is_weighted=counter.is_weighted,
    )


def map_cooccurrence(
    interactions: Interactions,
    use: Callable[[RowBlock], T],
    min_rating: float | None = _MIN_RATING,
    *,
    window: Window | None = None,
    runtime: Runtime | None = None,
) -> Iterator[T]:
    """Count, and use the rows of X block by block, without ever holding all of it.

    Args:
        interactions: who rated what.
        use: called with each block, in several threads; what it gives back is yielded, in order.
            A block does not outlast the call: copy it if it shall.
        min_rating: the lowest rating that counts as "liked".
        window: count pairs of watches within a window.
        runtime: for the number of threads.

    Raises:
        DataError: as `count_cooccurrence`.
    """
    counter = make_counter(interactions, min_rating, window=window, runtime=runtime)
    unit = counter.rows.unit
    yield from counter.map_blocks(lambda block: use(block.scaled(unit)))


def count_neighbours(
    interactions: Interactions,
    k: int,
    weighting: WeightingConfig | None = None,
    min_rating: float | None = _MIN_RATING,
    *,
    window: Window | None = None,
    runtime: Runtime | None = None,
) -> sp.csr_array:
    """Find the k items with the largest weights for each item, without ever holding all of X.

    Args:
        interactions: who rated what.
        k: how many neighbours each item has at most.
        weighting: of the counts; by default the cosine.
        min_rating: the lowest rating that counts as "liked".
        window: count pairs of watches within a window.
        runtime: for the number of threads.

    Returns:
        The weights, float32, [n_items, n_items]; of equal ones those with the lower column:
        what `keep_top_k(weight(counts, weighting), k)` gives.

    Raises:
        DataError: as `count_cooccurrence`.
    """
    config = weighting or WeightingConfig()
    counter = make_counter(interactions, min_rating, window=window, runtime=runtime)
    marginals, unit = counter.marginals(), counter.rows.unit

    def nearest(block: RowBlock) -> sp.csr_array:
        weighted = weight_block(block.scaled(unit), marginals, config)
        return keep_top_k(weighted.matrix, k)

    neighbours: sp.csr_array = sp.vstack(list(counter.map_blocks(nearest)), format="csr")
    return neighbours


def _foresee(counter: Counter, limit: int | None, notify: Callable[[str], object] | None) -> None:
    expected = counter.forecast()
    if notify is not None:
        notify(f"co-occurrence: {expected}")
    if limit is not None and expected.matrix_bytes + expected.counting_bytes > limit:
        raise ConfigError(
            f"counting takes about {format_bytes(expected.counting_bytes)} of memory and the "
            f"counts {format_bytes(expected.matrix_bytes)}, together more than memory_limit, "
            f"{format_bytes(limit)}: give a folder to write the counts to"
        )
