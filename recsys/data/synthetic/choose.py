"""Which titles each viewer watches: drawn in proportion to appeal, without repeats.

A viewer with tastes p wants title t, of taste c(t), with a weight of appeal_t (p_c(t) + 0.001).
Titles are drawn one after the other in proportion to it, never the same twice. That is done in
two ways, which give the same distribution:

- Draw with repeats, from cumulative sums, and keep the first of each title: given what was kept
  before, the next kept is a draw in proportion among the rest. The work grows with the titles
  drawn, not with the catalogue.
- Add Gumbel noise to the logarithms of the weights and sort: the Gumbel-max trick. Used for the
  few viewers for whom nearly all draws have become repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.data.synthetic.catalogue import Catalogue
from recsys.data.synthetic.config import SyntheticConfig

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]

_ROUNDS: Final = 6
"""How often to draw with repeats before sorting the whole catalogue for a viewer."""
_SORTED_AT_ONCE: Final = 1_000_000
"""Weights in memory where catalogues are sorted."""
_FLOOR: Final = 1e-3
"""Added to each taste: anybody may watch anything."""


@dataclass(frozen=True)
class Chosen:
    """Titles by viewer, the most wanted first. M rows."""

    user: _Ints  # [M] from zero within the block
    title: _Ints  # [M]
    n_films: _Ints  # [M] how many of its films are watched

    def __getitem__(self, rows: _Ints | _Bools) -> Chosen:
        """Some of the rows."""
        return Chosen(self.user[rows], self.title[rows], self.n_films[rows])

    @staticmethod
    def concatenate(*parts: Chosen) -> Chosen:
        """The rows of all parts, in order."""
        return Chosen(
            np.concatenate([part.user for part in parts]),
            np.concatenate([part.title for part in parts]),
            np.concatenate([part.n_films for part in parts]),
        )


def choose_titles(
    catalogue: Catalogue,
    tastes: _Floats,
    n_events: _Ints,
    config: SyntheticConfig,
    rng: np.random.Generator,
    rounds: int = _ROUNDS,
) -> Chosen:
    """Choose titles for each viewer until their films are as many as the viewer watches.

    Args:
        catalogue: the titles, T.
        tastes: how much of each taste a viewer has, [n_users, n_tastes]; rows sum to one.
        n_events: how many films each viewer watches, [n_users].
        config: for the appetite for sequels.
        rng: where random numbers come from.
        rounds: how often to draw with repeats; none means sorting for everybody.

    Returns:
        What is watched, sorted by viewer, each viewer's in the order drawn.
    """
    draw = _Draw(catalogue, tastes, config.sequel_appetite, rng)
    nothing = np.zeros(0, np.int64)
    finished, pending = [], Chosen(nothing, nothing, nothing)
    missing = n_events
    for _ in range(rounds):
        # A half more than are missing, since some will be repeats.
        n_draws = np.where(missing > 0, missing + missing // 2 + 4, 0)
        pending = _first_of_each(Chosen.concatenate(pending, draw.with_repeats(n_draws)))
        got = np.bincount(pending.user, pending.n_films, len(n_events)).astype(np.int64)
        missing = np.where(missing > 0, n_events - got, 0)
        is_open = missing[pending.user] > 0
        finished.append(pending[~is_open])
        pending = pending[is_open]
    rest = draw.the_rest(missing, pending)
    chosen = Chosen.concatenate(*finished, pending, *rest)
    return _cut(chosen[np.argsort(chosen.user, kind="stable")], n_events)


class _Draw:
    """Draws titles for the viewers of a block, U of them."""

    def __init__(
        self, catalogue: Catalogue, tastes: _Floats, appetite: float, rng: np.random.Generator
    ) -> None:
        self._catalogue, self._tastes, self._appetite, self._rng = catalogue, tastes, appetite, rng
        n_users, self._n_tastes = tastes.shape
        # Titles laid end to end, taste by taste, each as long as it is appealing.
        self._by_taste = np.argsort(catalogue.taste, kind="stable")  # [T]
        self._ends = np.exp(catalogue.log_appeal[self._by_taste]).cumsum()  # [T]
        n_titles_until = np.bincount(catalogue.taste, minlength=self._n_tastes).cumsum()
        self._bounds = np.concatenate([[0.0], self._ends])[np.append(0, n_titles_until)]
        # And the tastes of all viewers, each viewer's of length one in all, [U * n_tastes].
        shares = ((tastes + _FLOOR) * np.diff(self._bounds)).cumsum(axis=1)
        self._taste_ends = (np.arange(n_users)[:, None] + shares / shares[:, -1:]).ravel()

    def with_repeats(self, n_draws: _Ints) -> Chosen:
        """Draw `n_draws[u]` titles for viewer u, perhaps the same several times."""
        user = np.repeat(np.arange(len(n_draws)), n_draws)
        place = user + self._rng.random(len(user))
        taste = np.searchsorted(self._taste_ends, place, side="right") - user * self._n_tastes
        taste = taste.clip(0, self._n_tastes - 1)  # where adding `user` rounded to the next viewer
        low, high = self._bounds[taste], self._bounds[taste + 1]
        place = low + (high - low) * self._rng.random(len(user))
        rank = np.searchsorted(self._ends, place, side="right").clip(max=len(self._ends) - 1)
        return self._with_films(user, self._by_taste[rank])

    def the_rest(self, missing: _Ints, had: Chosen) -> list[Chosen]:
        """Draw `missing[u]` titles or more for viewer u, as far as there are any, none of `had`."""
        log_appeal, taste = self._catalogue.log_appeal, self._catalogue.taste
        viewers = np.flatnonzero(missing > 0)
        row_of = np.full(len(missing), -1)
        size = max(_SORTED_AT_ONCE // len(taste), 1)
        rest = []
        for some in np.split(viewers, range(size, len(viewers), size)):
            keys = log_appeal + np.log(self._tastes[some] + _FLOOR)[:, taste]  # [some, T]
            keys += self._rng.gumbel(size=keys.shape)
            row_of[:] = -1
            row_of[some] = np.arange(len(some))
            known = row_of[had.user] >= 0
            keys[row_of[had.user[known]], had.title[known]] = -np.inf
            order = _largest(keys, missing[some].max(initial=0))
            row, position = np.nonzero(np.isfinite(np.take_along_axis(keys, order, axis=1)))
            rest.append(self._with_films(some[row], order[row, position]))
        return rest

    def _with_films(self, user: _Ints, title: _Ints) -> Chosen:
        """Go on to each next film of a franchise with a constant chance; see both of a pair."""
        n_films = self._rng.geometric(1 - self._appetite, len(user))
        n_films[title < self._catalogue.n_pairs] = 2
        return Chosen(user, title, np.minimum(n_films, self._catalogue.n_films[title]))


def _largest(keys: _Floats, k: int) -> _Ints:
    """Columns of the k largest keys of each row, the largest first, [n, k]."""
    if k < keys.shape[1]:
        top: _Ints = np.argpartition(-keys, k, axis=1)[:, :k]
    else:
        top = np.broadcast_to(np.arange(keys.shape[1]), keys.shape)
    order = np.argsort(-np.take_along_axis(keys, top, axis=1), axis=1)
    return np.take_along_axis(top, order, axis=1)


def _first_of_each(chosen: Chosen) -> Chosen:
    """Drop what a viewer has had before; the order stays."""
    if not len(chosen.user):
        return chosen
    n_titles = chosen.title.max() + 1
    _, first = np.unique(chosen.user * n_titles + chosen.title, return_index=True)
    return chosen[np.sort(first)]


def _cut(chosen: Chosen, n_events: _Ints) -> Chosen:
    """Stop each viewer, of rows sorted by viewer, at the number of films watched."""
    until = chosen.n_films.cumsum()
    before = until - chosen.n_films
    first = np.searchsorted(chosen.user, np.arange(len(n_events)))
    room = n_events[chosen.user] - (before - before[first][chosen.user])
    cut = Chosen(chosen.user, chosen.title, np.minimum(chosen.n_films, room.clip(0)))
    return cut[cut.n_films > 0]
