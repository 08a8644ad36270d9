"""Synthetic movie ratings with the structure of real ones, for tests and offline use.

Users have tastes, and a few movies have most of the ratings. A user watches a few titles of one
taste in a row; series are watched in order. The next item thus depends on the latest ones.
Shapes: T titles (movies, series or planted pairs), N movies, U users of a block, M samples,
R ratings.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recsys import columns
from recsys.callbacks import EpochCallback, no_op
from recsys.config import Config
from recsys.data.layouts import RATING_COLUMNS
from recsys.storage import atomic_folder

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

GENRES: Final = (
    "Drama", "Comedy", "Thriller", "Romance", "Sci-Fi", "Adventure", "Crime", "Horror", "Mystery",
    "Fantasy", "Animation", "War", "Western", "Musical", "Documentary", "Children", "Action",
    "Film-Noir",
)  # fmt: skip
_FIRST_WORDS: Final = """Midnight Silent Crimson Hollow Golden Broken Winter Paper Distant Velvet
    Iron Amber Restless Northern Borrowed Stolen Electric Quiet Burning Frozen Hidden Last Painted
    Scarlet Wandering Savage Gentle Copper Lonely Emerald"""
_LAST_WORDS: Final = """Harbor Garden River Kingdom Letters Station Orchard Promise Lantern
    Shadow Horizon Carnival Island Witness Summer Bridge Mirror Highway Mountain Empire Passage
    Stranger Waltz Compass Tide Frontier Cathedral Fugitive Meadow Reunion"""
_PREPOSITIONS: Final = "of in at from before after beyond without"
_ENDINGS: Final = """Glass Dawn Paris Silence Thunder Berlin Ashes Moonlight Vienna Snow Silver
    Lisbon Fire Autumn Mercy Stone Cairo Sunset Roses Havana Rain Honor Venice Starlight Shanghai
    Regret Salt Naples Memory Eden"""
_NUMERALS: Final = ("", " II", " III", " IV", " V")

_BLOCK_RATINGS: Final = 500_000  # about 100 MB of memory per block
_CATALOGUE_STREAM, _USERS_STREAM = 0, 1  # independent streams of random numbers
_START: Final = 1_420_070_400  # 2015-01-01, after the last release
_END: Final = 1_735_689_600  # 2025-01-01
_YEAR, _DAY, _MINUTE = 31_536_000, 86_400, 60
_ACTIVITY_SPREAD: Final = 0.7  # of log activity: a tenth of the users give a quarter of the ratings


class SyntheticConfig(Config):
    """Size and structure of a synthetic data set."""

    n_users: int = Field(default=400, ge=1)
    """Number of users."""
    n_items: int = Field(default=300, ge=10, le=200_000)
    """Number of movies; the least popular may have no ratings."""
    mean_events: int = Field(default=60, ge=5)
    """Approximate mean number of ratings per user, at most half the movies."""
    n_tastes: int = Field(default=6, ge=1, le=len(GENRES))
    """Number of groups of movies that appeal to the same users, each with its own genre."""
    series_fraction: float = Field(default=0.25, ge=0, le=1)
    """Fraction of titles that are series of two to five movies."""
    sequel_probability: float = Field(default=0.75, ge=0, lt=1)
    """Probability of going on to the next movie of a series."""
    planted_pairs: int = Field(default=0, ge=0)
    """Number of pairs of popular movies that the same users watch in a row and rate alike: nearest
    neighbours given about ten users. At most one pair per ten movies; titles do not reveal them."""
    seed: int = Field(default=0, ge=0)
    """Equal seeds give equal ratings."""

    @model_validator(mode="after")
    def _check_sizes(self) -> SyntheticConfig:
        for name, share, factor in (("mean_events", "half", 2), ("planted_pairs", "a tenth", 10)):
            value = getattr(self, name)
            if factor * value > self.n_items:
                raise ValueError(
                    f"{name} {value} is more than {share} of n_items {self.n_items}: "
                    f"lower {name} or raise n_items"
                )
        return self

    @property
    def users_per_block(self) -> int:
        """Number of users generated at a time, which bounds the memory."""
        return max(_BLOCK_RATINGS // self.mean_events, 1)

    @property
    def n_blocks(self) -> int:
        """Number of blocks of users; the last may be smaller."""
        return -(-self.n_users // self.users_per_block)


def synthesise_ratings(
    config: SyntheticConfig = SyntheticConfig(),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Generate ratings and movies in memory.

    Returns ratings (user_id, item_id, rating from 0.5 to 5 in half steps, timestamp in seconds),
    sorted by user and time, and movies (item_id, title, genres separated by `|`).
    """
    titles, movies = generate_movies(config)
    return pd.concat(_blocks(titles, config, no_op), ignore_index=True), movies


def write_sample(
    folder: Path, config: SyntheticConfig = SyntheticConfig(), on_block: EpochCallback = no_op
) -> Path:
    """Write synthetic ratings as MovieLens does: ratings.csv and movies.csv.

    All at once. `on_block` is called after each block of users with the number of `ratings` so far.
    """
    titles, movies = generate_movies(config)
    names = {ours: name for name, ours in columns.MOVIELENS.items()}
    with atomic_folder(folder) as tmp_path:
        movies.rename(columns=names).to_csv(tmp_path / "movies.csv", index=False)
        for block, ratings in enumerate(_blocks(titles, config, on_block)):
            path, table = tmp_path / "ratings.csv", ratings.rename(columns=names)
            table.to_csv(path, mode="a", index=False, header=block == 0)
    return folder


def write_parquet(
    folder: Path, config: SyntheticConfig = SyntheticConfig(), on_block: EpochCallback = no_op
) -> Path:
    """Write ratings.parquet, a row group per block of users, and movies.csv; see `write_sample`."""
    titles, movies = generate_movies(config)
    schema = pa.schema(zip(RATING_COLUMNS, ("int64", "int64", "float64", "int64"), strict=True))
    with atomic_folder(folder) as tmp_path:
        movies.to_csv(tmp_path / "movies.csv", index=False)
        with pq.ParquetWriter(tmp_path / "ratings.parquet", schema, compression="zstd") as writer:
            for ratings in _blocks(titles, config, on_block):
                table = pa.Table.from_pandas(ratings, schema, preserve_index=False)
                writer.write_table(table.replace_schema_metadata(), row_group_size=len(ratings))
    return folder


def planted_pairs(config: SyntheticConfig) -> _Ints:
    """Ids of the pairs of movies planted as nearest neighbours, [planted_pairs, 2]."""
    titles, _ = generate_movies(config)
    first = titles.first_item[: titles.n_pairs]
    return titles.item_ids[np.stack([first, first + 1], axis=1)]


def _blocks(
    titles: Titles, config: SyntheticConfig, on_block: EpochCallback
) -> Iterator[pd.DataFrame]:
    n_ratings = 0
    for block in range(config.n_blocks):
        ratings = generate_block(titles, config, block)
        yield ratings
        n_ratings += len(ratings)
        on_block(block + 1, {"ratings": float(n_ratings)})


class Titles(NamedTuple):
    """The titles, planted pairs first."""

    n_movies: _Ints  # [T]
    first_item: _Ints  # [T] index of the first movie; the others follow
    taste: _Ints  # [T]
    log_appeal: _Floats  # [T] of rank r by popularity: −log r
    quality: _Floats  # [T]
    n_pairs: int
    item_ids: _Ints  # [N] shuffled, so that ids are independent of taste, order and popularity


def _generate_titles(config: SyntheticConfig, rng: Generator) -> Titles:
    n_pairs = config.planted_pairs
    is_series = rng.random(config.n_items) < config.series_fraction
    n_movies = np.where(is_series, rng.integers(2, len(_NUMERALS) + 1, config.n_items), 1)
    n_movies[:n_pairs] = 2
    n_movies = np.diff(n_movies.cumsum().clip(max=config.n_items), prepend=0)  # cut the last title
    n_movies = n_movies[n_movies > 0]
    n_titles = len(n_movies)
    # Ranks of popularity, from zero; planted pairs are among the most popular titles.
    n_popular = min(max(2 * n_pairs, n_titles // 10), n_titles)
    rank = np.append(rng.permutation(n_popular), np.arange(n_popular, n_titles))
    rank[n_pairs:] = rng.permutation(rank[n_pairs:])
    quality = rng.normal(0.0, 0.3, n_titles)
    quality[:n_pairs] = 0.6  # most users who watch a planted pair rate it highly
    taste = rng.permutation(np.arange(n_titles) % config.n_tastes)
    first_item, log_appeal = n_movies.cumsum() - n_movies, -np.log(rank + 1.0)
    item_ids = rng.permutation(config.n_items) + 1
    return Titles(n_movies, first_item, taste, log_appeal, quality, n_pairs, item_ids)


def generate_movies(config: SyntheticConfig) -> tuple[Titles, pd.DataFrame]:
    """Generate the titles, and the movies by id: item_id, title (with numeral and year), genres."""
    rng = default_rng(SeedSequence(config.seed, spawn_key=(_CATALOGUE_STREAM,)))
    titles = _generate_titles(config, rng)
    n_titles, n_items = len(titles.n_movies), len(titles.item_ids)
    # 216,900 unique names, short ones first.
    pairs = [f"{a} {b}" for a, b in product(_FIRST_WORDS.split(), _LAST_WORDS.split())]
    tails = [f" {a} {b}" for a, b in product(_PREPOSITIONS.split(), _ENDINGS.split())]
    rng.shuffle(pairs)
    rng.shuffle(tails)
    names = (f"{pair}{tail}" for tail in ["", *tails] for pair in pairs)
    # The fifth movie appears at most twelve years after the first, before the first rating.
    years = rng.integers(1950, 2003, n_titles).tolist()
    gaps = rng.integers(1, 4, n_items)
    gaps[titles.first_item] = 0
    second_genres = rng.integers(len(GENRES), size=n_titles)
    texts, genres = [], []
    for title, (first, n) in enumerate(zip(titles.first_item, titles.n_movies, strict=True)):
        is_pair = title < titles.n_pairs
        name = next(names)
        for part, year in enumerate(years[title] + gaps[first : first + n].cumsum()):
            if is_pair and part:  # a pair consists of unrelated movies
                name = next(names)
            texts.append(f"{name}{'' if is_pair else _NUMERALS[part]} ({year})")
        both = {GENRES[titles.taste[title]], GENRES[second_genres[title]]}
        genres += ["|".join(sorted(both))] * int(n)
    movies = {columns.ITEM_ID: titles.item_ids, columns.TITLE: texts, columns.GENRES: genres}
    return titles, pd.DataFrame(movies).sort_values(columns.ITEM_ID, ignore_index=True)


def generate_block(titles: Titles, config: SyntheticConfig, block: int) -> pd.DataFrame:
    """Generate the ratings of a block of users, which do not depend on other blocks."""
    rng = default_rng(SeedSequence(config.seed, spawn_key=(_USERS_STREAM, block)))
    first_user = block * config.users_per_block
    n_users = min(config.users_per_block, config.n_users - first_user)
    tastes = rng.dirichlet(np.full(config.n_tastes, 0.6), n_users)  # [U, n_tastes]
    log_mean = np.log(config.mean_events) - _ACTIVITY_SPREAD**2 / 2
    activity = rng.lognormal(log_mean, _ACTIVITY_SPREAD, n_users)
    n_events = np.clip(activity.astype(np.int64), 5, config.n_items // 2)
    sampled = sample_titles(titles, tastes, n_events, config, rng)
    user, title, part, session = _order_sessions(sampled, titles, config, rng)
    return pd.DataFrame(
        {
            columns.USER_ID: first_user + user + 1,
            columns.ITEM_ID: titles.item_ids[titles.first_item[title] + part],
            columns.RATING: _generate_ratings(titles, tastes, user, title, part, rng),
            columns.TIMESTAMP: _generate_timestamps(user, session, n_users, rng),
        }
    )


def sample_titles(
    titles: Titles,
    tastes: _Floats,
    n_events: _Ints,
    config: SyntheticConfig,
    rng: Generator,
    rounds: int = 6,
) -> _Ints:
    """Sample titles for each user, without replacement, until their movies are `n_events` ([U]).

    The weight of title t with taste c for a user with tastes p ([U, n_tastes]) is its appeal times
    p_c + 0.001. Titles are drawn with replacement and repeats dropped, in linear time. After
    `rounds`, the few users left get Gumbel top-k sampling over all titles. Returns user, title and
    number of its movies that are watched, sorted by user, [M, 3].
    """
    weights = tastes + 1e-3
    sampled, missing, finished = np.zeros((0, 3), np.int64), n_events, []
    for round_ in range(rounds + 1):
        draw = _draw if round_ < rounds else _draw_others
        for user, title in draw(titles, weights, missing, sampled, rng):
            n_movies = rng.geometric(1 - config.sequel_probability, len(user))
            n_movies[title < titles.n_pairs] = 2  # a planted pair is watched together
            n_movies = np.minimum(n_movies, titles.n_movies[title])
            sampled = np.concatenate([sampled, np.stack([user, title, n_movies], axis=1)])
        keys = sampled[:, 0] * len(titles.taste) + sampled[:, 1]
        sampled = sampled[np.sort(np.unique(keys, return_index=True)[1])]  # without repeats
        n_sampled = np.bincount(sampled[:, 0], sampled[:, 2], len(n_events)).astype(np.int64)
        missing = np.where(missing > 0, n_events - n_sampled, 0).clip(0)
        is_pending = missing[sampled[:, 0]] > 0
        finished.append(sampled[~is_pending])
        sampled = sampled[is_pending]
    sampled = np.concatenate([*finished, sampled])
    # Cut the rows of each user at `n_events[u]` movies.
    user, title, n_movies = sampled[np.argsort(sampled[:, 0], kind="stable")].T
    before = n_movies.cumsum() - n_movies
    missing = n_events[user] - (before - before[np.searchsorted(user, user)])
    sampled = np.stack([user, title, np.minimum(n_movies, missing.clip(0))], axis=1)
    return sampled[sampled[:, 2] > 0]


def _draw(
    titles: Titles, weights: _Floats, missing: _Ints, _known: _Ints, rng: Generator
) -> Iterator[tuple[_Ints, _Ints]]:
    """Draw about 1.5 `missing[u]` titles for user u with replacement, as some will be repeats."""
    user = np.repeat(np.arange(len(missing)), np.where(missing, missing + missing // 2 + 4, 0))
    by_taste = np.argsort(titles.taste, kind="stable")  # [T]
    ends = np.append(0.0, np.exp(titles.log_appeal[by_taste]).cumsum())  # cumulative appeal
    n_users, n_tastes = weights.shape
    bounds = ends[np.searchsorted(titles.taste[by_taste], np.arange(n_tastes + 1))]
    # Cumulative probabilities of the tastes; those of user u are in [u, u + 1].
    shares = (weights * np.diff(bounds)).cumsum(axis=1)
    taste_ends = (np.arange(n_users)[:, None] + shares / shares[:, -1:]).ravel()
    taste = np.searchsorted(taste_ends, user + rng.random(len(user)), side="right")
    taste = (taste - user * n_tastes).clip(0, n_tastes - 1)  # sums may round up to the next user
    low, high = bounds[taste], bounds[taste + 1]
    value = low + (high - low) * rng.random(len(user))
    rank = np.searchsorted(ends[1:], value, side="right").clip(max=len(by_taste) - 1)
    yield user, by_taste[rank]


def _draw_others(
    titles: Titles, weights: _Floats, missing: _Ints, known: _Ints, rng: Generator
) -> Iterator[tuple[_Ints, _Ints]]:
    """Draw `missing[u]` titles for user u, if there are as many, that are not `known`."""
    users = np.flatnonzero(missing)
    size = max(1_000_000 // len(titles.taste), 1)  # a million weights in memory
    for group in np.split(users, range(size, len(users), size)):
        keys = titles.log_appeal + np.log(weights[group])[:, titles.taste]  # [group, T]
        keys += rng.gumbel(size=keys.shape)
        user, title, _ = known[np.isin(known[:, 0], group)].T
        keys[np.searchsorted(group, user), title] = -np.inf
        order = np.argsort(-keys, axis=1)[:, : missing[group].max(initial=0)]
        row, position = np.nonzero(np.isfinite(np.take_along_axis(keys, order, axis=1)))
        yield group[row], order[row, position]


def _order_sessions(
    sampled: _Ints, titles: Titles, config: SyntheticConfig, rng: Generator
) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """Order titles into sessions of up to three: user, title, part and session, [R] each."""
    group = sampled[:, 0] * config.n_tastes + titles.taste[sampled[:, 1]]
    sampled = sampled[np.argsort(group, kind="stable")]
    group.sort()
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    session = (rank % 3 == 0).cumsum() - 1
    start = sampled[:, 0] + rng.random(len(group))[session]
    order = np.lexsort((rng.random(len(group)), start))
    n_movies = sampled[order, 2]
    part = np.arange(n_movies.sum()) - np.repeat(n_movies.cumsum() - n_movies, n_movies)
    row = np.repeat(order, n_movies)
    return sampled[row, 0], sampled[row, 1], part, session[row]


def _generate_ratings(
    titles: Titles, tastes: _Floats, user: _Ints, title: _Ints, part: _Ints, rng: Generator
) -> _Floats:
    match = (tastes / tastes.max(axis=1, keepdims=True))[user, titles.taste[title]]  # in 0..1
    leniency = rng.normal(0.0, 0.3, len(tastes))
    noise = rng.normal(0.0, 0.5, len(user))
    second_of_pair = np.flatnonzero((title < titles.n_pairs) & (part > 0))
    noise[second_of_pair] = noise[second_of_pair - 1]
    opinion = 3.0 + 1.2 * match + leniency[user] + titles.quality[title] + noise
    rating: _Floats = np.rint(2 * opinion).clip(1, 10) / 2
    return rating


def _generate_timestamps(user: _Ints, session: _Ints, n_users: int, rng: Generator) -> _Ints:
    """Timestamps hours apart within a session and days apart between sessions, [R].

    The times of a user with so many ratings that they would end after `_END` are closer together.
    """
    duration = rng.integers(80 * _MINUTE, 180 * _MINUTE, len(user))
    pause = ((1 + rng.exponential(4.0, len(user))) * _DAY).astype(np.int64)
    gap = duration + pause * (np.diff(session, prepend=-1) != 0)
    elapsed, first = gap.cumsum(), np.searchsorted(user, user)
    joined = _START + rng.integers(0, 3 * _YEAR, n_users)
    since_joined = elapsed - elapsed[first] + gap[first]
    longest = since_joined[np.searchsorted(user, user, side="right") - 1]
    shrinkage = np.minimum((_END - joined[user]) / longest, 1.0)
    timestamps: _Ints = joined[user] + (since_joined * shrinkage).astype(np.int64)
    return timestamps
