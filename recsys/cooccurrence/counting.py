"""Count co-occurrences in memory or on disk, or find neighbours directly."""

from __future__ import annotations

from pathlib import Path
from typing import overload

import scipy.sparse as sp

from recsys.arguments import require, to_int, to_path
from recsys.cluster import THIS_PROCESS, Workers
from recsys.config import Runtime
from recsys.cooccurrence.blocks import CooccurrenceBlocks, write_blocks
from recsys.cooccurrence.config import MinRating, Window
from recsys.cooccurrence.matrix import Cooccurrence, RowBlock
from recsys.cooccurrence.planner import CountPlan, plan_count
from recsys.cooccurrence.topk import keep_top_k
from recsys.cooccurrence.weightings import WeightingConfig, weight_block
from recsys.data import Interactions
from recsys.errors import ConfigError
from recsys.memory import format_bytes, parse_bytes


@overload
def count_cooccurrence(
    interactions: Interactions,
    min_rating: MinRating = ...,
    *,
    window: Window | None = ...,
    memory_limit: str | int | None = ...,
    folder: None = ...,
    runtime: Runtime | None = ...,
    workers: Workers = ...,
) -> Cooccurrence: ...


@overload
def count_cooccurrence(
    interactions: Interactions,
    min_rating: MinRating = ...,
    *,
    window: Window | None = ...,
    memory_limit: str | int | None = ...,
    folder: Path | str,
    runtime: Runtime | None = ...,
    workers: Workers = ...,
) -> CooccurrenceBlocks: ...


def count_cooccurrence(
    interactions: Interactions,
    min_rating: MinRating = "auto",
    *,
    window: Window | None = None,
    memory_limit: str | int | None = None,
    folder: Path | str | None = None,
    runtime: Runtime | None = None,
    workers: Workers = THIS_PROCESS,
) -> Cooccurrence | CooccurrenceBlocks:
    """Count, for each pair of items, the users with positive interactions with both.

    Without a window, a user counts once, even with several interactions with the same item. If
    events have weights, a user counts with the product of the largest weights of both items.

    Args:
        interactions: user histories.
        min_rating: lowest rating of a positive interaction; by default 0.8 of the highest of the
            scale, such as 4 of 5. None counts every interaction, as does data without ratings.
        window: count pairs of interactions within a window instead.
        memory_limit: maximum memory to use in addition to the interactions, such as "2GB".
        folder: write X to this folder in blocks of rows, instead of keeping it in memory. An
            existing folder is replaced.
        runtime: number of threads; by default OMP_NUM_THREADS or all cores.
        workers: those of a cluster, see `recsys.cluster`, count and write the blocks of a `folder`,
            which they see under the same path.

    Returns:
        The counts; with a `folder`, a reader of the blocks.

    Raises:
        DataError: there are no interactions, no rating reaches `min_rating`, or the window needs
            timestamps that the data does not have.
        ConfigError: `memory_limit` is too low, or events have weights and there is a window.

    Example:
        >>> import pandas as pd
        >>> from recsys.data import read_ratings
        >>> users, items, stars = [1, 1, 1, 2, 2, 2], [7, 8, 9, 7, 8, 9], [5, 4, 1, 4, 5, 5]
        >>> ratings = pd.DataFrame({"user_id": users, "item_id": items, "rating": stars})
        >>> count_cooccurrence(read_ratings(ratings)).matrix.toarray().tolist()
        [[0, 2, 1], [2, 0, 1], [1, 1, 0]]
    """
    require(Workers, workers=workers)
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    plan = plan_count(interactions, min_rating, window=window, memory_limit=limit, runtime=runtime)
    if folder is not None:
        return write_blocks(to_path(folder, ConfigError), plan, workers)
    if limit is not None:
        _require_memory(plan, limit)
    return Cooccurrence(matrix=plan.matrix(), **plan.metadata.metadata())


def _require_memory(plan: CountPlan, limit: int) -> None:
    counting_bytes, matrix_bytes = plan.estimate()
    if counting_bytes + matrix_bytes > limit:
        raise ConfigError(
            f"counting takes about {format_bytes(counting_bytes)} of memory and the counts "
            f"{format_bytes(matrix_bytes)}, together more than memory_limit, "
            f"{format_bytes(limit)}: pass a folder to write the counts to"
        )


def count_neighbours(
    interactions: Interactions,
    k: int,
    weighting: WeightingConfig | None = None,
    min_rating: MinRating = "auto",
    *,
    window: Window | None = None,
    runtime: Runtime | None = None,
) -> sp.csr_array:
    """Find the k items with the largest weights for each item, without keeping all of X.

    The weighting is by default the cosine; for the other arguments and the errors, see
    `count_cooccurrence`.

    Returns:
        The weights, float32, [n_items, n_items]; ties go to the lower column. Equal to
        `keep_top_k(weight(counts, weighting), k)`.
    """
    require(WeightingConfig | None, weighting=weighting)
    k, config = to_int("k", k), weighting or WeightingConfig()
    plan = plan_count(interactions, min_rating, window=window, runtime=runtime)
    marginals, divisor = plan.marginals(), plan.metadata.divisor

    def neighbours_of(block: RowBlock) -> sp.csr_array:
        return keep_top_k(weight_block(block.divided(divisor), marginals, config).matrix, k)

    neighbours: sp.csr_array = sp.vstack(list(plan.map_blocks(neighbours_of)), format="csr")
    return neighbours
