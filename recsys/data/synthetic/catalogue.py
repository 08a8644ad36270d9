"""The films: single ones, franchises and planted pairs, with titles, years and genres."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.data.synthetic.config import GENRES, SyntheticConfig

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

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
_JOINTS: Final = "of in at from before after beyond without"
_ENDINGS: Final = """
    Glass Dawn Paris Silence Thunder Berlin Ashes Moonlight Vienna Snow Silver Lisbon Fire Autumn
    Mercy Stone Cairo Sunset Roses Havana Rain Honor Venice Starlight Shanghai Regret Salt Naples
    Memory Eden
"""
_NUMERALS: Final = ("", " II", " III", " IV", " V")
_POPULAR_SHARE: Final = 0.1
"""The share of the titles, from the top, among which planted pairs are: they have an audience."""


@dataclass(frozen=True)
class Catalogue:
    """One entry per title: a film, a whole franchise or a planted pair. T titles, N films."""

    n_films: _Ints  # [T]
    first_item: _Ints  # [T] index of its first film; the others follow
    taste: _Ints  # [T]
    log_appeal: _Floats  # [T]
    quality: _Floats  # [T]
    n_pairs: int  # the first titles are the planted pairs
    item_ids: _Ints  # [N] shuffled, so that an id tells nothing of taste, sequel or popularity


def make_catalogue(config: SyntheticConfig, rng: np.random.Generator) -> Catalogue:
    """Make the films that there are to watch."""
    n_films = _group_films(config, rng)
    n_titles = len(n_films)
    rank = _rank(n_titles, config.planted_pairs, rng)
    quality = rng.normal(0.0, 0.3, n_titles)
    quality[: config.planted_pairs] = 0.6  # so that most of their audience likes them
    return Catalogue(
        n_films=n_films,
        first_item=n_films.cumsum() - n_films,
        taste=rng.permutation(np.arange(n_titles) % config.n_tastes),
        log_appeal=-config.popularity_exponent * np.log(rank + 1.0),
        quality=quality,
        n_pairs=config.planted_pairs,
        item_ids=rng.permutation(config.n_items) + 1,
    )


def describe(catalogue: Catalogue, rng: np.random.Generator) -> pd.DataFrame:
    """List the films by id, with titles that tell a franchise and its order.

    Returns:
        The columns item_id, title and genres, N rows.
    """
    n_titles, n_items = len(catalogue.n_films), len(catalogue.item_ids)
    names = _names(rng)
    # The fifth film comes twelve years after the first at most: before anyone rates it.
    years = rng.integers(1950, 2003, n_titles).tolist()
    gaps = rng.integers(1, 4, n_items)
    gaps[catalogue.first_item] = 0
    others = rng.integers(len(GENRES), size=n_titles)
    titles, genres = [], []
    for title, (first, n_films) in enumerate(
        zip(catalogue.first_item, catalogue.n_films, strict=True)
    ):
        released = years[title] + gaps[first : first + n_films].cumsum()
        name = next(names)
        for part, year in enumerate(released):
            if title < catalogue.n_pairs and part:  # twins, not sequels
                name = next(names)
            numeral = "" if title < catalogue.n_pairs else _NUMERALS[part]
            titles.append(f"{name}{numeral} ({year})")
        own, other = GENRES[catalogue.taste[title]], GENRES[others[title]]
        genres += ["|".join(sorted({own, other}))] * len(released)
    films = {columns.ITEM_ID: catalogue.item_ids, columns.TITLE: titles, columns.GENRES: genres}
    return pd.DataFrame(films).sort_values(columns.ITEM_ID, ignore_index=True)


def planted_pairs(config: SyntheticConfig) -> _Ints:
    """Ids of the films planted as each other's nearest neighbours, [planted_pairs, 2].

    Example:
        >>> planted_pairs(SyntheticConfig(planted_pairs=3)).shape
        (3, 2)
    """
    catalogue = make_catalogue(config, config.catalogue_rng())
    first = catalogue.first_item[: catalogue.n_pairs]
    return catalogue.item_ids[np.stack([first, first + 1], axis=1)]


def _group_films(config: SyntheticConfig, rng: np.random.Generator) -> _Ints:
    """How many films each title has, [T]: as many titles as fill the catalogue."""
    is_franchise = rng.random(config.n_items) < config.franchise_share
    n_films = np.where(is_franchise, rng.integers(2, len(_NUMERALS) + 1, config.n_items), 1)
    n_films[: config.planted_pairs] = 2
    ends = np.minimum(n_films.cumsum(), config.n_items)
    n_films = np.diff(ends, prepend=0)  # the last may be cut
    return n_films[n_films > 0]


def _rank(n_titles: int, n_pairs: int, rng: np.random.Generator) -> _Ints:
    """The popularity rank of each title from zero, [T]; planted pairs are among the popular."""
    n_popular = min(max(2 * n_pairs, int(_POPULAR_SHARE * n_titles)), n_titles)
    popular = rng.permutation(n_popular)
    others = np.concatenate([popular[n_pairs:], np.arange(n_popular, n_titles)])
    return np.concatenate([popular[:n_pairs], rng.permutation(others)])


def _names(rng: np.random.Generator) -> Iterator[str]:
    """Names, no two alike: short ones first, 216,900 in all."""
    pairs = [f"{a} {b}" for a, b in product(_FIRST_WORDS.split(), _LAST_WORDS.split())]
    tails = [f" {joint} {end}" for joint, end in product(_JOINTS.split(), _ENDINGS.split())]
    rng.shuffle(pairs)
    rng.shuffle(tails)
    return (f"{pair}{tail}" for tail in ["", *tails] for pair in pairs)
