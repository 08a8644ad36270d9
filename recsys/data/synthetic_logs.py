"""Synthetic logs without ratings in which items repeat: plays of music, and events of a shop.

Items are in groups: the tracks of an album in order, or the products of a category. The log of a
user is a walk, and its steps are all that a model can find in it. Each step is one of these:

- a repeat: the item of n steps ago with probability proportional to 1 / n, so that recent and
  frequent items are likely (Anderson et al. 2014, "The dynamics of repeat consumption");
- within a session, a neighbour: one of the next items of the group of the latest item;
- else a jump: an item by its popularity and the user's taste. Jumps and neighbours may be known.

In a shop, steps are views. Some lead to a cart, and some carts to a purchase, by chance alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from pydantic import Field

from recsys import columns
from recsys.config import Config
from recsys.storage import atomic_folder

_Ints = NDArray[np.int64]
_START, _HOUR, _DAY = 1_577_836_800, 3_600, 86_400  # 2020-01-01
_MAX_DAYS = 1_645  # with 180 days to the first session, up to 2025


class _Kind(NamedTuple):
    title: str
    group_size: int
    mean_events: int  # plays or views of a user
    session_length: float  # mean of a geometric distribution
    single_session: float  # share of users who come only once
    repeat: float  # probability of a repeat
    neighbour: float  # probability of a neighbour if the step is no repeat
    n_neighbours: int  # equally likely
    first_hour: int  # sessions start from this hour of the day to 22
    seconds: tuple[int, int]  # range of the time between two steps


_KINDS: Final = {
    "music": _Kind("Album {}, track {}", 10, 80, 12, 0, 0.6, 0.5, 1, 18, (150, 330)),
    "shop": _Kind("Range {}, product {}", 25, 12, 4, 0.5, 0.25, 0.7, 3, 8, (10, 120)),
}


class LogConfig(Config):
    """Kind and size of a log."""

    kind: Literal["music", "shop"] = "music"
    """Plays, mostly repeats, in the evenings; or views, carts and purchases in short sessions."""
    n_users: int = Field(default=1_000, ge=1)
    """Number of users."""
    n_items: int = Field(default=600, ge=10)
    """Number of items; the least popular may not occur."""
    mean_events: int | None = Field(default=None, ge=1)
    """Approximate mean of plays or views per user, at least a session; None means 80 or 12."""
    seed: int = Field(default=0, ge=0)
    """Equal seeds give equal logs."""


def synthesise_log(config: LogConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Generate a log in memory.

    Returns the log in order of time (user_id, item_id, timestamp in seconds; of a shop also
    session_id and event: view, cart or purchase) and the items (item_id, title).
    """
    kind, rng = _KINDS[config.kind], default_rng(config.seed)
    user, session, timestamp = _sessions(config, kind, rng)
    item = _walk(config, kind, user, session, rng)
    ids = rng.permutation(config.n_items) + 1
    names = columns.USER_ID, columns.SESSION_ID, columns.ITEM_ID, columns.EVENT, columns.TIMESTAMP
    values = user + 1, session + 1, ids[item], "view", timestamp
    log = pd.DataFrame(dict(zip(names, values, strict=True)))
    if config.kind == "shop":
        log = _add_carts_and_purchases(log, rng)
    else:
        log = log.drop(columns=[columns.SESSION_ID, columns.EVENT])
    log = log.sort_values(columns.TIMESTAMP, kind="stable", ignore_index=True)
    size = kind.group_size
    titles = [kind.title.format(i // size + 1, i % size + 1) for i in range(config.n_items)]
    items = pd.DataFrame({columns.ITEM_ID: ids, columns.TITLE: titles})
    return log, items.sort_values(columns.ITEM_ID, ignore_index=True)


def write_log(folder: Path, config: LogConfig, suffix: str = ".csv") -> pd.DataFrame:
    """Write log.csv or log.parquet, and movies.csv with the titles, atomically; return the log."""
    log, items = synthesise_log(config)
    with atomic_folder(folder) as tmp_path:
        items.to_csv(tmp_path / "movies.csv", index=False)
        write = log.to_parquet if suffix == ".parquet" else log.to_csv
        write(tmp_path / f"log{suffix}", index=False)
    return log


def _sessions(config: LogConfig, kind: _Kind, rng: Generator) -> tuple[_Ints, _Ints, _Ints]:
    """User, session and timestamp of each step; the sessions of a user are on different days."""
    mean = (config.mean_events or kind.mean_events) / kind.session_length
    activity = rng.lognormal(-0.245, 0.7, config.n_users)  # of mean 1
    further = rng.poisson(max(mean - 1, 0) / (1 - kind.single_session) * activity)
    further[rng.random(config.n_users) < kind.single_session] = 0
    user = np.repeat(np.arange(config.n_users), 1 + further)
    lengths = rng.geometric(1 / kind.session_length, len(user)).clip(max=150)  # within a day
    session = np.repeat(np.arange(len(user)), lengths)

    days = _days_between(user, rng) + rng.integers(0, 180, config.n_users)[user]
    start = _START + days * _DAY + rng.integers(kind.first_hour * _HOUR, 22 * _HOUR, len(user))
    elapsed = rng.integers(*kind.seconds, len(session)).cumsum()
    elapsed -= elapsed[np.searchsorted(session, session)]
    return user[session], session, start[session] + elapsed


def _days_between(user: _Ints, rng: Generator) -> _Ints:
    """Days from the first session of a user to each one, at least one more for each.

    The pauses of a user whose sessions would exceed `_MAX_DAYS` are shorter, down to none.
    """
    first, last = np.searchsorted(user, user), np.searchsorted(user, user, side="right") - 1
    ordinal = np.arange(len(user)) - first
    pauses = rng.exponential(3.0, len(user)).astype(np.int64).cumsum()
    pauses -= pauses[first]
    shrinkage = (_MAX_DAYS - ordinal[last]) / np.maximum(pauses[last], 1)
    days: _Ints = ordinal + (pauses * shrinkage.clip(0.0, 1.0)).astype(np.int64)
    return days


def _draw_jumps(config: LogConfig, kind: _Kind, user: _Ints, rng: Generator) -> _Ints:
    """An item for each step by popularity and taste; the items of a group have one taste."""
    group = np.arange(config.n_items) // kind.group_size
    n_tastes = min(8, group[-1] + 1)
    appeal = rng.lognormal(0.0, 1.0, config.n_items) / (1 + rng.permutation(group[-1] + 1)[group])
    ends = rng.dirichlet(np.full(n_tastes, 0.4), config.n_users).cumsum(axis=1)[:, :-1]
    taste = (rng.random((len(user), 1)) > ends[user]).sum(axis=1)
    item = np.empty(len(user), dtype=np.int64)
    for chosen in range(n_tastes):
        steps, members = np.flatnonzero(taste == chosen), np.flatnonzero(group % n_tastes == chosen)
        item[steps] = rng.choice(members, len(steps), p=appeal[members] / appeal[members].sum())
    return item


def _walk(config: LogConfig, kind: _Kind, user: _Ints, session: _Ints, rng: Generator) -> _Ints:
    """The item of each step: a jump unless it is replaced by a repeat or a neighbour."""
    item = _draw_jumps(config, kind, user, rng)
    n_steps, size = len(user), kind.group_size
    position = np.arange(n_steps) - np.searchsorted(user, user)
    ends = (1 / np.arange(1, position.max() + 2)).cumsum()
    lag = 1 + np.searchsorted(ends, rng.random(n_steps) * ends[position - 1], side="right")
    lag = np.minimum(lag, position)  # 0 at the first step
    is_repeat = rng.random(n_steps) < kind.repeat
    is_near = (rng.random(n_steps) < kind.neighbour) & (np.diff(session, prepend=-1) == 0)
    hop = rng.integers(1, kind.n_neighbours + 1, n_steps)
    # One position of all users at a time, as a step depends on those before it.
    by_position = np.argsort(position, kind="stable")
    for row in np.split(by_position, np.bincount(position).cumsum()[:-1])[1:]:
        start, number = np.divmod(item[row - 1], size) * np.array([[size], [1]])
        near = start + (number + hop[row]) % np.minimum(size, config.n_items - start)
        new = np.where(is_near[row], near, item[row])
        item[row] = np.where(is_repeat[row], item[row - lag[row]], new)
    return item


def _add_carts_and_purchases(views: pd.DataFrame, rng: Generator) -> pd.DataFrame:
    """Add carts, seconds after a view, and purchases, a minute after the last view of a session."""
    end = views.groupby(columns.SESSION_ID)[columns.TIMESTAMP].transform("last")
    carts = views[rng.random(len(views)) < 0.15].assign(event="cart")
    purchases = carts[rng.random(len(carts)) < 0.4].assign(event="purchase")
    carts[columns.TIMESTAMP] += rng.integers(1, 10, len(carts))
    purchases[columns.TIMESTAMP] = end[purchases.index] + 60
    return pd.concat([views, carts, purchases])
