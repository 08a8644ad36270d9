"""Synthetic ratings as tables and as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import columns
from recsys.callbacks import EpochCallback, no_op
from recsys.data.synthetic.catalogue import Catalogue, describe, make_catalogue
from recsys.data.synthetic.config import SyntheticConfig
from recsys.data.synthetic.viewers import rate_block
from recsys.storage import atomic_folder

_SCHEMA = pa.schema(
    {
        columns.USER_ID: pa.int64(),
        columns.ITEM_ID: pa.int64(),
        columns.RATING: pa.float64(),
        columns.TIMESTAMP: pa.int64(),
    }
)


def synthesise_ratings(
    config: SyntheticConfig | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make ratings and the films that they are of, all in memory.

    Args:
        config: sizes, behaviour and seed; the defaults if not given.

    Returns:
        Ratings (user_id, item_id, rating in half steps from 0.5 to 5, timestamp in seconds),
        sorted by user and time, and films (item_id, title, genres separated by `|`).
    """
    config = config or SyntheticConfig()
    catalogue, movies = _make_films(config)
    return pd.concat(_blocks(catalogue, config, no_op), ignore_index=True), movies


def write_sample(
    folder: Path, config: SyntheticConfig | None = None, on_block: EpochCallback = no_op
) -> Path:
    """Write synthetic ratings as MovieLens does: ratings.csv and movies.csv.

    Args:
        folder: where the files shall be; it appears whole or not at all, and an older one there
            is replaced.
        config: sizes, behaviour and seed; the defaults if not given.
        on_block: called after each block of viewers with its number, from one, and the number
            of `ratings` so far.

    Returns:
        The folder.
    """
    config = config or SyntheticConfig()
    catalogue, movies = _make_films(config)
    theirs = {ours: name for name, ours in columns.MOVIELENS.items()}
    with atomic_folder(folder) as draft:
        movies.rename(columns=theirs).to_csv(draft / "movies.csv", index=False)
        with (draft / "ratings.csv").open("w", encoding="utf-8", newline="") as file:
            for number, ratings in enumerate(_blocks(catalogue, config, on_block)):
                ratings.rename(columns=theirs).to_csv(file, index=False, header=number == 0)
    return folder


def write_parquet(
    folder: Path, config: SyntheticConfig | None = None, on_block: EpochCallback = no_op
) -> Path:
    """Write synthetic ratings of any number, a block of viewers in memory at a time.

    The files are ratings.parquet (user_id, item_id, rating, timestamp), sorted by user and time,
    a row group for each block, and movies.csv (item_id, title, genres).

    Args:
        folder: where the files shall be; it appears whole or not at all, and an older one there
            is replaced.
        config: sizes, behaviour and seed; the defaults if not given.
        on_block: called after each block of viewers with its number, from one, and the number
            of `ratings` so far.

    Returns:
        The folder.
    """
    config = config or SyntheticConfig()
    catalogue, movies = _make_films(config)
    with atomic_folder(folder) as draft:
        movies.to_csv(draft / "movies.csv", index=False)
        with pq.ParquetWriter(draft / "ratings.parquet", _SCHEMA, compression="zstd") as writer:
            for ratings in _blocks(catalogue, config, on_block):
                table = pa.Table.from_pandas(ratings, _SCHEMA, preserve_index=False)
                writer.write_table(table.replace_schema_metadata(), row_group_size=len(ratings))
    return folder


def _make_films(config: SyntheticConfig) -> tuple[Catalogue, pd.DataFrame]:
    rng = config.catalogue_rng()
    catalogue = make_catalogue(config, rng)
    return catalogue, describe(catalogue, rng)


def _blocks(
    catalogue: Catalogue, config: SyntheticConfig, on_block: EpochCallback
) -> Iterator[pd.DataFrame]:
    n_ratings = 0
    for block in range(config.n_blocks):
        ratings = rate_block(catalogue, config, block)
        yield ratings
        n_ratings += len(ratings)
        on_block(block + 1, {"ratings": float(n_ratings)})
