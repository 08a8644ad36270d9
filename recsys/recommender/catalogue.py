"""The catalogue: items by id, by title and by search query."""

from __future__ import annotations

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_scalar
from rapidfuzz import fuzz, process
from rapidfuzz.utils import default_process

from recsys import columns
from recsys.arguments import require, shown
from recsys.cooccurrence import top_k
from recsys.errors import QueryError, UnknownItemError
from recsys.forks import lazy
from recsys.titles import TitleIndex, display_title, fold_letters
from recsys.vocabulary import ID, Vocabulary

Item: TypeAlias = ID
"""An item, given by its id or its title."""

Unknown: TypeAlias = Literal["raise", "ignore"]
"""Whether unknown items of a request are an error or are left out."""

Floats: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]

_SEPARATOR = "|"
"""Separates the values of a multi-valued attribute, such as MovieLens' genres."""

_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")

_MAX_LISTED = 10
"""Items that are listed for an ambiguous title."""

_MIN_SIMILARITY = 60.0
"""Percentage of similarity below which a title does not match a query."""


def item_list(name: str, value: object) -> list[Any]:
    """Validate a list of items; `name` is the argument's name in error messages.

    Raises:
        QueryError: The value is a single item, or not iterable.
    """
    if isinstance(value, pd.DataFrame):
        raise QueryError(f"{name} is a DataFrame: pass one of its columns, such as item_id")
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise QueryError(f"{name} is {shown(value)}: it must be a list of ids or titles")
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    try:
        return value if isinstance(value, list) else list(value)
    except Exception as error:
        raise QueryError(f"{name} cannot be read as a list: {shown(error)}") from error


class Catalogue:
    """The items that can be recommended.

    Args:
        table: One row per item, in index order: `item_id`, `title` and any other attributes.
        items: The item ids.
        popularity_N: Popularity by which equally good search results are ordered.
    """

    def __init__(self, table: pd.DataFrame, items: Vocabulary, popularity_N: Floats) -> None:
        self.table = table
        self.items = items
        self.ids: NDArray[Any] = items.ids
        self.titles: NDArray[Any] = table[columns.TITLE].to_numpy(dtype=object)
        self._popularity_N = popularity_N
        self._values: dict[str, Mapping[str, tuple[str, NDArray[np.int64]]]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    @lazy
    def genres(self) -> list[list[str]]:
        """The genres of each item; empty where unknown."""
        values = self.table.get(columns.GENRES)
        if values is None:
            return [[] for _ in self.ids]
        return [str(v).split(_SEPARATOR) if v and not pd.isna(v) else [] for v in values]

    def index_of(self, item: Item) -> int:
        """The index of an item given by id or by title, as people write it; see `TitleIndex`.

        Where ids are numbers, text of digits is an id if there is such an id.

        Raises:
            UnknownItemError: No item, or more than one, has this id or title.
            QueryError: The argument is neither an integer nor a string.
        """
        matches = self._matches(item)
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise self._ambiguous(str(item), matches)
        text = _text(item)
        if text != item and text in self.items:
            raise UnknownItemError(
                f"no item has the id {text}: ids are text here, and there is an item with the id "
                f"{text!r}",
                item,
            )
        closest = self.suggestions(item)
        hint = f"; did you mean {', '.join(closest.values())}?" if closest else ""
        message = f"no item has the id or title {text!r}{hint}"
        raise UnknownItemError(message, item, tuple(closest))

    def _ambiguous(self, title: str, matches: Sequence[int]) -> UnknownItemError:
        """The error of a title of several items, which lists the most popular ones."""
        ranked = self.candidates(title)
        titles, ids = self.titles[ranked].tolist(), self.ids[ranked].tolist()
        listed = ", ".join(f"{i!r} is {name!r}" for i, name in zip(ids, titles, strict=True))
        more = f", and {len(matches) - len(ranked):,} more" if len(matches) > len(ranked) else ""
        message = f"{title!r} is the title of {len(matches):,} items: use an id; {listed}{more}"
        return UnknownItemError(message, title, tuple(map(str, ids)))

    def candidates(self, item: Item) -> list[int]:
        """The items with this id or title, the most popular ten, best first."""
        ranked = sorted(self._matches(item), key=lambda index: -self._popularity_N[index])
        return ranked[:_MAX_LISTED]

    def knows(self, item: Item) -> bool:
        """Whether exactly one item has this id or title."""
        return len(self._matches(item)) == 1

    def is_exact(self, item: Item) -> bool:
        """Whether this is an integer, an id, or a title except for its case."""
        return not isinstance(item, str) or bool(self._matches_exactly(item))

    def _matches(self, item: Item) -> Sequence[int]:
        if isinstance(item, np.generic):
            item = item.item()
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise QueryError(
                f"{shown(item)} is a {type(item).__name__}: an item is given by its id (a number "
                "or text, as in the ratings) or by its title"
            )
        if isinstance(item, int):
            return (self.items.index(item),) if item in self.items else ()
        return self._matches_exactly(item) or self._title_index.find(item)

    def _matches_exactly(self, text: str) -> Sequence[int]:
        """The items with this id, or with this title except for its case."""
        if text in self.items:
            return (self.items.index(text),)
        if self.ids.dtype == np.int64 and _NUMBER.fullmatch(text) and int(text) in self.items:
            return (self.items.index(int(text)),)
        return self._index_by_title.get(text.casefold(), ())

    def indices(self, name: str, items: object, unknown: Unknown = "raise") -> NDArray[np.int32]:
        """The indices of several items, [n]; `name` is the argument's name in error messages."""
        require(Unknown, QueryError, unknown=unknown)
        values = item_list(name, items)
        if set(map(type, values)) <= {int, str}:
            index = self.items.indices(values)
            if not (index < 0).any():  # all of them are ids
                return index
        if unknown == "ignore":
            values = [item for item in values if self.knows(item)]
        return np.array([self.index_of(item) for item in values], dtype=np.int32)

    def history_indices(
        self, history: object, name: str = "history", unknown: Unknown = "raise"
    ) -> NDArray[np.int32]:
        """`indices` for the items of a user, oldest first."""
        if isinstance(history, set | frozenset):
            kind = type(history).__name__
            raise QueryError(f"{name} is a {kind}, which has no order: pass a list")
        return self.indices(name, history, unknown)

    def search(
        self, query: str, k: int, allowed_N: NDArray[np.bool_] | None = None
    ) -> tuple[Indices, Floats]:
        """The items whose titles are most similar to a query, and their similarity from 0 to 1."""
        similarity_N = self._search.similarity(query)
        if allowed_N is not None:
            similarity_N[~allowed_N] = -np.inf
        _, index = top_k((similarity_N + 1e-3 * self._relative_popularity)[None], k)
        return index, similarity_N[index]

    def suggestions(self, item: Item, k: int = 5) -> dict[str, str]:
        """The ids that differ by leading zeros, or else the closest titles, each as it is shown.

        A title of several items would not say which: their ids stand for them.
        """
        significant = _text(item).lstrip("0")
        ids = [(str(i), title) for i, title in zip(self.ids, self.titles, strict=True)]
        found = [(i, title) for i, title in ids if i.lstrip("0") == significant][:k]
        if not found and isinstance(item, str):
            closest = [ids[index] for index in self.search(item, k)[0].tolist()]
            found = [(title if self.knows(title) else i, title) for i, title in closest]
        return {n: repr(n) if n == title else f"{n!r} ({title!r})" for n, title in found}

    def attribute_mask(self, column: str, value: object) -> NDArray[np.bool_]:
        """The items with a value of an attribute, [N]. Text is compared case-insensitively.

        Raises:
            QueryError: The catalogue has no such column, or no item has this text.
        """
        if column not in self.table:
            names = ", ".join(map(repr, self.table))
            raise QueryError(
                f"the catalogue has no column {shown(column)}; its columns are {names}"
            )
        if not is_scalar(value):
            raise QueryError(f"{shown(value)} is not a value of column {column!r}")
        if not isinstance(value, str):
            return np.asarray((self.table[column] == value).fillna(value=False), dtype=np.bool_)
        values = self.values(column)
        if value.casefold() not in values:
            known = sorted(name for name, _ in values.values() if _SEPARATOR not in name)
            names = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
            raise QueryError(f"no item has {shown(value)} in column {column!r}; values are {names}")
        mask_N = np.zeros(len(self), dtype=np.bool_)
        mask_N[values[value.casefold()][1]] = True
        return mask_N

    def values(self, column: str) -> Mapping[str, tuple[str, NDArray[np.int64]]]:
        """The values of a column as text and the items that have them, by their lower case."""
        if column not in self._values:
            found: dict[str, tuple[str, list[int]]] = {}
            column_N = self.table[column]
            (known,) = column_N.notna().to_numpy().nonzero()
            column_N = column_N.iloc[known]
            # astype would decode bytes.
            texts = column_N.map(str) if column_N.dtype == object else column_N.astype(str)
            for index, text in zip(known.tolist(), texts, strict=True):
                for value in dict.fromkeys([text, *text.split(_SEPARATOR)]):
                    found.setdefault(value.casefold(), (value, []))[1].append(index)
            self._values[column] = {
                key: (value, np.array(items)) for key, (value, items) in found.items()
            }
        return self._values[column]

    @lazy
    def _index_by_title(self) -> Mapping[str, list[int]]:
        by_title = defaultdict[str, list[int]](list)
        for index, title in enumerate(self.titles.tolist()):
            by_title[title.casefold()].append(index)
        return by_title

    @lazy
    def _title_index(self) -> TitleIndex:
        return TitleIndex(self.titles.tolist())

    @lazy
    def _search(self) -> TitleSearch:
        return TitleSearch(self.titles.tolist())

    @lazy
    def _relative_popularity(self) -> Floats:
        rank = np.argsort(np.argsort(self._popularity_N, kind="stable"))
        relative_N: Floats = (rank / max(len(rank), 1)).astype(np.float32)
        return relative_N


class TitleSearch:
    """Fuzzy title search: tolerates typos, accents, other word order, articles and a missing year.

    Example:
        >>> search = TitleSearch(["Matrix, The (1999)", "Heat (1995)"])
        >>> [bool(similarity > 0.85) for similarity in search.similarity("the matirx")]
        [True, False]
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self._full = [_words(title) for title in titles]
        self._short = [_words(display_title(title)) for title in titles]

    def similarity(self, query: str) -> Floats:
        """Similarity of each title to a query: 1 if equal, minus infinity if no match, [N]."""
        text = _words(query)
        if not text:
            return np.full(len(self._full), -np.inf, dtype=np.float32)
        percent_N = np.maximum(
            _percent(text, self._short, fuzz.ratio),
            # Matches with the year or reordered words count slightly less, partial ones less still.
            np.maximum(
                0.98 * _percent(text, self._full, fuzz.token_sort_ratio),
                0.9 * self._partial(text),
            ),
        )
        percent_N[percent_N < _MIN_SIMILARITY] = -np.inf
        similarity_N: Floats = percent_N / np.float32(100.0)
        return similarity_N

    def _partial(self, text: str) -> Floats:
        """Similarity of the query to a part of each title, in percent, [N]."""
        if len(text) < 3:  # one or two letters are part of nearly every title
            pattern = re.compile(rf"\b{re.escape(text)}")
            return np.array(
                [100.0 if pattern.search(title) else 0.0 for title in self._short], np.float32
            )
        partial_N = _percent(text, self._short, fuzz.partial_ratio)
        # A title shorter than the query would match as a part of the query.
        long_enough_N = np.array([len(title) >= len(text) for title in self._short])
        return np.where(long_enough_N, partial_N, 0.0).astype(np.float32)


def _text(item: Item) -> str:
    """An id or title as text; an integer of thousands of digits has none."""
    return item if isinstance(item, str) else shown(operator.index(item))


def _words(text: str) -> str:
    """Lower case without accents and punctuation."""
    return default_process(fold_letters(text))


def _percent(text: str, titles: Sequence[str], scorer: Callable[..., float]) -> Floats:
    scores_N: Floats = process.cdist([text], titles, scorer=scorer, dtype=np.float32)[0]
    return scores_N
