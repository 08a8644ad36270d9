"""Made-up film ratings with the structure that real ones have, for tests and offline use.

Viewers have tastes and a few films have most of the audience. A viewer watches in sittings:
a handful of titles of one taste, back to back. Franchises are watched in order and sometimes
given up half-way. What comes next therefore depends on what was watched last, and a model that
reads histories in order can beat one that sees them as sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recsys import columns
from recsys.config import Config
from recsys.storage import atomic_folder

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

_GENRES: Final = (
    "Drama", "Comedy", "Thriller", "Romance", "Sci-Fi", "Adventure", "Crime", "Horror", "Mystery",
    "Fantasy", "Animation", "War", "Western", "Musical", "Documentary", "Children", "Action",
    "Film-Noir",
)  # fmt: skip
_FIRST_WORDS: Final = """
    Midnight Silent Crimson Hollow Golden Broken Winter Paper Distant Velvet Iron Amber Restless
    Northern Borrowed Stolen Electric Quiet Burning Frozen Hidden Last Painted Scarlet Wandering
    Savage Gentle Copper Lonely Emerald
"""
_LAST_WORDS: Final = """
    Harbor Garden River Kingdom Letters Station Orchard Promise Lantern Shadow Horizon Carnival
    Island Witness Summer Bridge Mirror Highway Mountain Empire Passage Stranger Waltz Compass
    Tide Frontier Cathedral Fugitive Meadow Reunion
"""
_ENDINGS: Final = ("", " at Dawn", " in Winter", " of Glass", " by Night", " Forever")
_NUMERALS: Final = ("", " II", " III", " IV", " V")

_OPENING: Final = 1_420_070_400  # 2015-01-01, after the last release
_YEAR, _DAY, _MINUTE = 31_536_000, 86_400, 60


class SyntheticConfig(Config):
    """How many viewers and films, and how they behave."""

    n_users: int = Field(default=400, ge=1)
    """Viewers."""
    n_items: int = Field(default=300, ge=10, le=5_000)
    """Films in the catalogue; the least loved may stay unwatched."""
    mean_events: int = Field(default=60, ge=5)
    """Ratings per viewer, about, on average; half the films at most."""
    n_tastes: int = Field(default=6, ge=1, le=len(_GENRES))
    """Groups of films that please the same viewers; each has a genre of its own."""
    taste_breadth: float = Field(default=0.6, gt=0)
    """Concentration of the Dirichlet that gives a viewer's tastes: small means few tastes each."""
    popularity_exponent: float = Field(default=1.0, ge=0)
    """The appeal of the title ranked r is r to minus this power."""
    franchise_share: float = Field(default=0.25, ge=0, le=1)
    """Share of titles that have sequels, two to five films in all."""
    sequel_appetite: float = Field(default=0.75, ge=0, lt=1)
    """Chance of going on to the next film of a franchise rather than giving it up."""
    titles_per_sitting: int = Field(default=3, ge=1)
    """Titles, a franchise being one, watched back to back before a break of days."""
    seed: int = Field(default=0, ge=0)
    """The same seed gives the same ratings."""

    @model_validator(mode="after")
    def _enough_films(self) -> SyntheticConfig:
        if 2 * self.mean_events > self.n_items:
            raise ValueError(
                f"mean_events {self.mean_events} is more than half of n_items {self.n_items}: "
                "lower mean_events or raise n_items"
            )
        return self


@dataclass(frozen=True)
class _Catalogue:
    """One entry per title: a single film or a whole franchise. T titles."""

    n_films: _Ints  # [T]
    first_item: _Ints  # [T] index of its first film; the others follow
    taste: _Ints  # [T]
    log_appeal: _Floats  # [T]
    quality: _Floats  # [T]
    first_year: _Ints  # [T]


def synthesise_ratings(
    config: SyntheticConfig | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make ratings and the films that they are of.

    Args:
        config: sizes, behaviour and seed; the defaults if not given.

    Returns:
        Ratings (user_id, item_id, rating in half steps from 0.5 to 5, timestamp in seconds),
        sorted by user and time, and films (item_id, title, genres separated by `|`).
    """
    config = config or SyntheticConfig()
    rng = np.random.default_rng(config.seed)
    catalogue = _make_catalogue(config, rng)
    # Shuffled ids, so that an id says nothing of taste, franchise or popularity.
    item_ids = rng.permutation(config.n_items) + 1
    # How much of each taste a viewer has, [n_users, n_tastes]; rows sum to one.
    tastes = rng.dirichlet(np.full(config.n_tastes, config.taste_breadth), config.n_users)
    chosen = _choose_titles(catalogue, tastes, config, rng)
    watched = _put_in_order(chosen, catalogue, config, rng)
    ratings = pd.DataFrame(
        {
            columns.USER_ID: watched["user"] + 1,
            columns.ITEM_ID: item_ids[watched["item"]],
            columns.RATING: _rate(watched, catalogue, tastes, rng),
            columns.TIMESTAMP: _clock(watched, config, rng),
        }
    )
    return ratings, _describe(catalogue, item_ids, rng)


def write_sample(folder: Path, config: SyntheticConfig | None = None) -> Path:
    """Write synthetic ratings as MovieLens does: ratings.csv and movies.csv.

    Args:
        folder: where the files shall be; it appears whole or not at all, and an older one there
            is replaced.
        config: sizes, behaviour and seed; the defaults if not given.

    Returns:
        The folder.
    """
    ratings, movies = synthesise_ratings(config)
    theirs = {ours: name for name, ours in columns.MOVIELENS.items()}
    with atomic_folder(folder) as draft:
        ratings.rename(columns=theirs).to_csv(draft / "ratings.csv", index=False)
        movies.rename(columns=theirs).to_csv(draft / "movies.csv", index=False)
    return folder


def _make_catalogue(config: SyntheticConfig, rng: np.random.Generator) -> _Catalogue:
    is_franchise = rng.random(config.n_items) < config.franchise_share
    n_films = np.where(is_franchise, rng.integers(2, len(_NUMERALS) + 1, config.n_items), 1)
    ends = np.minimum(n_films.cumsum(), config.n_items)
    n_films = np.diff(ends, prepend=0)
    n_films = n_films[n_films > 0]  # as many titles as fill the catalogue; the last may be cut
    n_titles = len(n_films)
    return _Catalogue(
        n_films=n_films,
        first_item=n_films.cumsum() - n_films,
        taste=rng.permutation(np.arange(n_titles) % config.n_tastes),
        log_appeal=-config.popularity_exponent * np.log(rng.permutation(n_titles) + 1.0),
        quality=rng.normal(0.0, 0.3, n_titles),
        # The fifth film comes twelve years after the first at most: before anyone rates it.
        first_year=rng.integers(1950, 2003, n_titles),
    )


def _choose_titles(
    catalogue: _Catalogue, tastes: _Floats, config: SyntheticConfig, rng: np.random.Generator
) -> pd.DataFrame:
    """Which titles each viewer watches and how many films of each, the most wanted first."""
    spread = 0.7  # of log activity: a tenth of the viewers give about a quarter of the ratings
    activity = rng.lognormal(np.log(config.mean_events) - spread**2 / 2, spread, config.n_users)
    n_events = np.clip(activity.astype(int), 5, config.n_items // 2)
    # Gumbel noise on log-weights and one sort draw titles in proportion, without replacement.
    log_weights = catalogue.log_appeal + np.log(tastes[:, catalogue.taste] + 1e-3)
    order = np.argsort(-(log_weights + rng.gumbel(size=log_weights.shape)))  # [n_users, T]
    n_films = rng.geometric(1 - config.sequel_appetite, order.shape)
    n_films = np.minimum(n_films, catalogue.n_films[order])
    room = n_events[:, None] - (n_films.cumsum(axis=1) - n_films)
    n_films = np.minimum(n_films, room.clip(0))
    user, position = np.nonzero(n_films)
    title = order[user, position]
    taste = catalogue.taste[title]
    counts = n_films[user, position]
    return pd.DataFrame({"user": user, "title": title, "taste": taste, "n_films": counts})


def _put_in_order(
    chosen: pd.DataFrame, catalogue: _Catalogue, config: SyntheticConfig, rng: np.random.Generator
) -> pd.DataFrame:
    """One row per film watched: sittings of one taste in any order, franchises in theirs."""
    turn = chosen.groupby(["user", "taste"]).cumcount() // config.titles_per_sitting
    sitting = chosen.groupby(["user", "taste", turn]).ngroup().to_numpy()
    when = rng.random(len(chosen))[sitting]
    order = np.lexsort((rng.random(len(chosen)), when, chosen["user"]))
    titles = chosen.assign(sitting=sitting).iloc[order].reset_index(drop=True)
    watched = titles.loc[titles.index.repeat(titles["n_films"])]
    part = watched.groupby(level=0).cumcount().to_numpy()
    item = catalogue.first_item[watched["title"]] + part
    return watched.assign(item=item).reset_index(drop=True)


def _rate(
    watched: pd.DataFrame, catalogue: _Catalogue, tastes: _Floats, rng: np.random.Generator
) -> _Floats:
    user, title = watched["user"].to_numpy(), watched["title"].to_numpy()
    match = tastes[user, catalogue.taste[title]] / tastes.max(axis=1)[user]  # in 0..1
    leniency = rng.normal(0.0, 0.3, len(tastes))
    opinion = 3.0 + 1.2 * match + leniency[user] + catalogue.quality[title]
    halves: _Floats = np.rint(2 * (opinion + rng.normal(0.0, 0.5, len(user))))
    return halves.clip(1, 10) / 2


def _clock(watched: pd.DataFrame, config: SyntheticConfig, rng: np.random.Generator) -> _Ints:
    """When each film was rated: hours apart within a sitting, days apart between sittings."""
    n = len(watched)
    film = rng.integers(80 * _MINUTE, 180 * _MINUTE, n)
    pause = ((1 + rng.exponential(4.0, n)) * _DAY).astype(np.int64)
    is_new_sitting = np.diff(watched["sitting"], prepend=-1) != 0
    since_joining = pd.Series(film + pause * is_new_sitting).groupby(watched["user"]).cumsum()
    joined = _OPENING + rng.integers(0, 3 * _YEAR, config.n_users)
    seconds: _Ints = joined[watched["user"]] + since_joining.to_numpy()
    return seconds


def _describe(catalogue: _Catalogue, item_ids: _Ints, rng: np.random.Generator) -> pd.DataFrame:
    """List the films by id, with titles that tell a franchise and its order."""
    pairs = rng.permutation([f"{a} {b}" for a in _FIRST_WORDS.split() for b in _LAST_WORDS.split()])
    names = [f"{pair}{ending}" for ending in _ENDINGS for pair in pairs]
    titles, genres = [], []
    for name, title in zip(names, range(len(catalogue.n_films)), strict=False):
        year = catalogue.first_year[title]
        own, other = _GENRES[catalogue.taste[title]], _GENRES[rng.integers(len(_GENRES))]
        for numeral in _NUMERALS[: catalogue.n_films[title]]:
            titles.append(f"{name}{numeral} ({year})")
            genres.append("|".join(sorted({own, other})))
            year += rng.integers(1, 4)
    films = {columns.ITEM_ID: item_ids, columns.TITLE: titles, columns.GENRES: genres}
    return pd.DataFrame(films).sort_values(columns.ITEM_ID, ignore_index=True)
