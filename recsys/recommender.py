"""The recommendation API: answers from a saved bundle."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.bundle import Bundle, load_bundle
from recsys.errors import UnknownItemError
from recsys.titles import spoken
from recsys.vocabulary import ID

Item = ID
"""An item, named by its id or by its title."""


class Recommender:
    """Recommends from one bundle. Items are named by id or by title.

    Every answer is a DataFrame, best first: `rank` (from one), `item_id`, `title`, `score`.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._ids = bundle.catalogue[columns.ITEM_ID].to_numpy()
        self._titles = bundle.catalogue[columns.TITLE].to_numpy()
        self._by_title: dict[str, list[int]] = {}
        for index, title in enumerate(self._titles):
            self._by_title.setdefault(title.casefold(), []).append(index)

    @classmethod
    def load(cls, folder: str | Path) -> Recommender:
        """Load and verify a bundle folder.

        Raises:
            BundleError: it is missing, incomplete, altered, or of an unknown format.
        """
        return cls(load_bundle(Path(folder)))

    def similar_items(self, item: Item, k: int = 10) -> pd.DataFrame:
        """Items liked by the same people; `score` is the cosine of the embeddings.

        An item that nobody liked together with another has no neighbours: the answer is empty.

        Args:
            item: id or title.
            k: how many, at most; a bundle keeps the nearest hundred.

        Raises:
            UnknownItemError: the catalogue has no such item, or several.
        """
        self._check_k(k)
        index = self.index_of(item)
        nearest = self.bundle.neighbour_index[index, :k]
        found = nearest >= 0
        return self._answer(nearest[found], self.bundle.neighbour_cosine[index, :k][found])

    def next_items(
        self,
        history: Sequence[Item],
        k: int = 10,
        *,
        exclude: Iterable[Item] = (),
        only: Collection[Item] | None = None,
    ) -> pd.DataFrame:
        """What is likely to be watched next; `score` is the probability.

        Args:
            history: what was watched, oldest first, by id or title; never recommended again.
                Where it is empty, what is popular is recommended.
            k: how many, at most.
            exclude: other items not to recommend.
            only: recommend only from these.

        Raises:
            UnknownItemError: the catalogue has no such item, or several.
        """
        self._check_k(k)
        watched = self._indices(history)
        log_probability = self.bundle.session_model.score([watched])[0]
        allowed = np.full(len(self._ids), only is None)
        allowed[self._indices(only or ())] = True
        allowed[watched] = False
        allowed[self._indices(exclude)] = False
        candidates = np.flatnonzero(allowed)
        # A stable sort breaks ties by index, as in evaluation.
        best = candidates[np.argsort(-log_probability[candidates], kind="stable")[:k]]
        return self._answer(best, np.exp(log_probability[best]))

    def index_of(self, item: Item) -> int:
        """The dense index of an item named by id or by title (upper or lower case alike).

        Raises:
            UnknownItemError: there is no such item; names the closest titles. Or several items
                have this title; names their ids.
        """
        if item in self.bundle.items:
            return self.bundle.items.index(item)
        matches = self._by_title.get(str(item).casefold(), [])
        if len(matches) == 1:
            return matches[0]
        if matches:
            ids = ", ".join(repr(self._ids.tolist()[index]) for index in matches)
            raise UnknownItemError(
                f"{item!r} is the title of {len(matches)} items: use an id, {ids}"
            )
        raise UnknownItemError(self._unknown(str(item)))

    def _unknown(self, name: str) -> str:
        closest = self._closest_titles(name)
        hint = f"; did you mean {', '.join(map(repr, closest))}?" if closest else ""
        return f"no item has the id or title {name!r}{hint}"

    def _closest_titles(self, name: str, n: int = 5) -> list[str]:
        """Titles that hold the name, shortest first, then titles that are spelt like it."""
        wanted = spoken(name).casefold()
        by_spoken: dict[str, str] = {}
        for title in self._titles:
            by_spoken.setdefault(spoken(title).casefold(), title)
        holding = sorted((known for known in by_spoken if wanted in known), key=len)
        alike = difflib.get_close_matches(wanted, by_spoken, n=n, cutoff=0.6)
        return [by_spoken[known] for known in dict.fromkeys(holding[:n] + alike)][:n]

    def _indices(self, items: Iterable[Item]) -> NDArray[np.int32]:
        return np.array([self.index_of(item) for item in items], dtype=np.int32)

    def _answer(self, index: NDArray[np.integer], score: NDArray[np.float32]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                columns.RANK: np.arange(1, len(index) + 1),
                columns.ITEM_ID: self._ids[index],
                columns.TITLE: self._titles[index],
                columns.SCORE: score,
            }
        )

    @staticmethod
    def _check_k(k: int) -> None:
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least one item")
