"""Items by id, by title, by what is searched for, and by what they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.cooccurrence import top_k
from recsys.errors import QueryError, UnknownItemError
from recsys.recommender.arguments import items_of
from recsys.recommender.ranking import Floats
from recsys.recommender.search import TitleSearch
from recsys.vocabulary import ID, Vocabulary

Item: TypeAlias = ID
"""An item, named by its id or by its title."""

ItemFilter: TypeAlias = (
    Collection[Item] | Mapping[str, object] | Callable[[pd.DataFrame], "pd.Series[bool]"]
)
"""Some of the items: by name, `["Heat (1995)", 150]`; by attribute, `{"genres": "Comedy"}`, or
several values of which any will do, `{"genres": ["Comedy", "Crime"]}`; or by a function of the
catalogue, `lambda films: films["title"].str.contains("1995")`."""

_SEPARATOR = "|"
"""Between the values of an attribute that has several, as in MovieLens' genres."""


class Catalogue:
    """The items that can be recommended.

    Args:
        table: one row per item, in index order: `item_id`, `title` and whatever else is known.
        items: their ids.
        popularity_N: by which equally good matches of a search are ordered.
    """

    def __init__(self, table: pd.DataFrame, items: Vocabulary, popularity_N: Floats) -> None:
        self.table = table
        self.items = items
        self.ids: NDArray[Any] = items.ids
        self.titles: NDArray[Any] = table[columns.TITLE].to_numpy(dtype=object)
        self._popularity_N = popularity_N
        self._with: dict[tuple[str, object], NDArray[np.bool_]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def index_of(self, item: Item) -> int:
        """The dense index of an item named by id or by title (upper or lower case alike).

        Raises:
            UnknownItemError: there is no such item; names the closest titles. Or several items
                have this title; names their ids.
            QueryError: it is no name at all, such as a float or None.
        """
        if isinstance(item, np.generic):
            item = item.item()
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise QueryError(
                f"{item!r} is a {type(item).__name__}: an item is named by its id (a number or "
                "text, as in the ratings) or by its title"
            )
        if item in self.items:
            return self.items.index(item)
        matches = self._by_title.get(str(item).casefold(), ())
        if len(matches) == 1:
            return matches[0]
        if matches:
            ids = ", ".join(repr(self.ids.tolist()[index]) for index in matches)
            raise UnknownItemError(
                f"{item!r} is the title of {len(matches)} items: use an id, {ids}", item
            )
        raise self._unknown(item)

    def parse_item(self, text: str) -> Item:
        """An id or a title from text: digits are an id where the catalogue has such an id."""
        return int(text) if text.isdigit() and int(text) in self.items else text

    def indices(self, name: str, items: object) -> NDArray[np.int32]:
        """The dense indices of several items, [n]; `name` is what messages call them."""
        named: list[Any] = items_of(name, items)
        if set(map(type, named)) <= {int, str}:
            index = self.items.indices(named)
            if not (index < 0).any():  # all are ids
                return index
        return np.array([self.index_of(item) for item in named], dtype=np.int32)

    def mask(self, name: str, choice: object) -> NDArray[np.bool_]:
        """Which items are chosen, [N]; see `ItemFilter`.

        Raises:
            UnknownItemError: an item is named that is not there.
            QueryError: an attribute is named that is not there, or the choice is no choice.
        """
        if isinstance(choice, Mapping):
            chosen = np.ones(len(self), dtype=np.bool_)
            for column, values in choice.items():
                several = values if isinstance(values, list | tuple | set | frozenset) else [values]
                chosen &= np.any([self._having(column, value) for value in several], axis=0)
            return chosen
        if callable(choice):
            return self._mask_of(name, choice(self.table))
        chosen = np.zeros(len(self), dtype=np.bool_)
        chosen[self.indices(name, choice)] = True
        return chosen

    def search(self, query: str, k: int, among: NDArray[np.bool_] | None) -> tuple[
        NDArray[np.int64], Floats
    ]:  # fmt: skip
        """The items whose titles are most like a query, and how alike, from zero to one."""
        likeness_N = self._search.likeness(query)
        if among is not None:
            likeness_N[~among] = -np.inf
        # Of equally good matches the one that more people watch.
        _, found = top_k((likeness_N + 1e-3 * self._relative_popularity)[None], k)
        return found, likeness_N[found]

    def closest_titles(self, name: str, k: int = 5) -> tuple[str, ...]:
        """Titles that are most like a name that is none."""
        found, _ = self.search(name, k, None)
        return tuple(self.titles[found].tolist())

    def _unknown(self, item: Item) -> UnknownItemError:
        closest = self.closest_titles(item) if isinstance(item, str) else ()
        hint = f"; did you mean {', '.join(map(repr, closest))}?" if closest else ""
        message = f"no item has the id or title {str(item)!r}{hint}"
        return UnknownItemError(message, item, closest)

    def _having(self, column: str, value: object) -> NDArray[np.bool_]:
        """Which items have a value of an attribute, [N]."""
        key = (column, value)
        if key not in self._with:
            self._with[key] = self._look_up(column, value)
        return self._with[key]

    def _look_up(self, column: str, value: object) -> NDArray[np.bool_]:
        if column not in self.table:
            known = ", ".join(map(repr, self.table))
            raise QueryError(f"the catalogue has no column {column!r}; it has {known}")
        values = self.table[column]
        if not isinstance(value, str):
            return np.asarray((values == value).fillna(value=False), dtype=np.bool_)
        bounded = _SEPARATOR + values.astype(str).str.casefold() + _SEPARATOR
        wanted = f"{_SEPARATOR}{value.casefold()}{_SEPARATOR}"
        found: NDArray[np.bool_] = bounded.str.contains(wanted, regex=False).to_numpy(np.bool_)
        if not found.any():
            several = sorted({v for text in values.astype(str) for v in text.split(_SEPARATOR)})
            known = ", ".join(several[:20]) + (", …" if len(several) > 20 else "")
            raise QueryError(f"no item has {value!r} among its {column}; there are {known}")
        return found

    def _mask_of(self, name: str, chosen: object) -> NDArray[np.bool_]:
        mask = np.asarray(chosen)
        if mask.dtype != np.bool_ or mask.shape != (len(self),):
            raise QueryError(
                f"the function given as {name} has to give True or False for each of the "
                f"{len(self)} items; it gave {mask.dtype} of shape {mask.shape}"
            )
        return mask

    @cached_property
    def _by_title(self) -> Mapping[str, tuple[int, ...]]:
        by_title: dict[str, tuple[int, ...]] = {}
        for index, title in enumerate(self.titles.tolist()):
            key = title.casefold()
            by_title[key] = (*by_title.get(key, ()), index)
        return by_title

    @cached_property
    def _search(self) -> TitleSearch:
        return TitleSearch(self.titles.tolist())

    @cached_property
    def _relative_popularity(self) -> Floats:
        rank = np.argsort(np.argsort(self._popularity_N, kind="stable"))
        relative: Floats = (rank / max(len(rank), 1)).astype(np.float32)
        return relative


def names(items: Iterable[str]) -> str:
    """A list as it is display_title: "a, b and c"."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
