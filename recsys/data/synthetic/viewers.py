"""What viewers do, block by block: what they watch, in which order, when, and how they like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.data.synthetic.catalogue import Catalogue
from recsys.data.synthetic.choose import Chosen, choose_titles
from recsys.data.synthetic.config import SyntheticConfig

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

_OPENING: Final = 1_420_070_400  # 2015-01-01, after the last release
_YEAR, _DAY, _MINUTE = 31_536_000, 86_400, 60
_SPREAD: Final = 0.7
"""Of log activity: a tenth of the viewers give about a quarter of the ratings."""


@dataclass(frozen=True)
class _Watched:
    """One entry per film watched, by viewer and time. R rows."""

    user: _Ints  # [R] from zero within the block
    title: _Ints  # [R]
    part: _Ints  # [R] which film of the title, from zero
    sitting: _Ints  # [R]


def rate_block(catalogue: Catalogue, config: SyntheticConfig, block: int) -> pd.DataFrame:
    """Make the ratings of a block of viewers.

    They depend on the configuration and the number of the block alone, so that blocks may be
    made in any order and by several processes.

    Args:
        catalogue: the films.
        config: sizes, behaviour and seed.
        block: which block, from zero.

    Returns:
        The columns user_id, item_id, rating and timestamp, sorted by user and time.
    """
    rng = config.block_rng(block)
    first_user = block * config.users_per_block
    n_users = min(config.users_per_block, config.n_users - first_user)
    # How much of each taste a viewer has, [n_users, n_tastes]; rows sum to one.
    tastes = rng.dirichlet(np.full(config.n_tastes, config.taste_breadth), n_users)
    activity = rng.lognormal(np.log(config.mean_events) - _SPREAD**2 / 2, _SPREAD, n_users)
    n_events = np.clip(activity.astype(np.int64), 5, config.n_items // 2)
    chosen = choose_titles(catalogue, tastes, n_events, config, rng)
    watched = _put_in_order(chosen, catalogue, config, rng)
    item = catalogue.first_item[watched.title] + watched.part
    return pd.DataFrame(
        {
            columns.USER_ID: first_user + watched.user + 1,
            columns.ITEM_ID: catalogue.item_ids[item],
            columns.RATING: _rate(watched, catalogue, tastes, rng),
            columns.TIMESTAMP: _clock(watched, n_users, rng),
        }
    )


def _put_in_order(
    chosen: Chosen, catalogue: Catalogue, config: SyntheticConfig, rng: np.random.Generator
) -> _Watched:
    """One row per film watched: sittings of one taste in any order, franchises in theirs."""
    group = chosen.user * config.n_tastes + catalogue.taste[chosen.title]
    chosen = chosen[np.argsort(group, kind="stable")]
    group.sort()
    rows = np.arange(len(group))
    is_first = np.diff(group, prepend=-1) != 0
    turn = rows - np.maximum.accumulate(np.where(is_first, rows, 0))
    sitting = (turn % config.titles_per_sitting == 0).cumsum() - 1
    when = chosen.user + rng.random(len(group))[sitting]
    order = np.lexsort((rng.random(len(group)), when))
    n_films = chosen.n_films[order]
    part = np.arange(n_films.sum()) - np.repeat(n_films.cumsum() - n_films, n_films)
    row = np.repeat(order, n_films)
    return _Watched(chosen.user[row], chosen.title[row], part, sitting[row])


def _rate(
    watched: _Watched, catalogue: Catalogue, tastes: _Floats, rng: np.random.Generator
) -> _Floats:
    user, title = watched.user, watched.title
    match = (tastes / tastes.max(axis=1, keepdims=True))[user, catalogue.taste[title]]  # in 0..1
    leniency = rng.normal(0.0, 0.3, len(tastes))
    mood = rng.normal(0.0, 0.5, len(user))
    twins = np.flatnonzero((title < catalogue.n_pairs) & (watched.part > 0))
    mood[twins] = mood[twins - 1]
    opinion = 3.0 + 1.2 * match + leniency[user] + catalogue.quality[title] + mood
    halves: _Floats = np.rint(2 * opinion)
    return halves.clip(1, 10) / 2


def _clock(watched: _Watched, n_users: int, rng: np.random.Generator) -> _Ints:
    """When each film was rated: hours apart within a sitting, days apart between sittings."""
    n = len(watched.user)
    film = rng.integers(80 * _MINUTE, 180 * _MINUTE, n)
    pause = ((1 + rng.exponential(4.0, n)) * _DAY).astype(np.int64)
    gap = film + pause * (np.diff(watched.sitting, prepend=-1) != 0)
    seconds = gap.cumsum()
    first = np.searchsorted(watched.user, np.arange(n_users))
    joined = _OPENING + rng.integers(0, 3 * _YEAR, n_users)
    when: _Ints = seconds + (joined - seconds[first] + gap[first])[watched.user]
    return when
