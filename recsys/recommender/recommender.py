"""The recommendation API: answers from a saved bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys import columns
from recsys.arguments import require, shown, to_int, to_path
from recsys.errors import BundleError, QueryError, UnknownUserError
from recsys.recommender.bundle import Bundle, UserHistories, load_bundle
from recsys.recommender.catalogue import Catalogue, Item, Unknown, item_list
from recsys.recommender.cold_start import nearest_to, new_item_vector, similar_to
from recsys.recommender.explain import contributions_table, items_to_explain
from recsys.recommender.filters import ItemFilter, RecommendOptions
from recsys.recommender.results import (
    Recommendations,
    ranking_table,
    score_table,
    sequences_table,
)
from recsys.recommender.scoring import ItemScorer, RankedItems
from recsys.recommender.sessions import Session, StateCache
from recsys.sessions.decode import search_beams
from recsys.storage import MANIFEST, sha256_of
from recsys.vocabulary import ID

_EMPTY = np.empty(0, dtype=np.int32)
_N_PROBES = 10


class Recommender:
    """Recommends items from one bundle. Items are given by id or by title.

    Every method returns a DataFrame, best first, with the columns `rank` (from 1), `item_id`,
    `title`, `score` and, where defined, `probability`; `as_records()` returns a list of
    dictionaries. A recommender is immutable and can be shared by threads. It is pickled as the
    folder that it was loaded from; if there is none, with all its content.

    The arguments that several methods share are described at `next_items`.

    Raises (all methods):
        UnknownItemError: An item is unknown or its title is ambiguous. The message contains the
            closest titles.
        QueryError: An argument is invalid. Both are subclasses of ValueError.
    """

    def __init__(self, bundle: Bundle, folder: Path | None = None, digest: str = "") -> None:
        self.bundle = bundle
        self.version = digest
        """Identifies the model: its version in MLflow, or the SHA-256 of the bundle's manifest."""
        self._folder, self._digest = folder, digest
        self.scorer = ItemScorer(bundle.embeddings, bundle.weights, bundle.clusters)
        self.catalogue = Catalogue(
            bundle.catalogue, bundle.items, self.scorer.model.log_popularity_N
        )
        self.state_cache = StateCache()

    @classmethod
    def load(cls, folder: str | Path) -> Recommender:
        """Load and verify a bundle folder.

        Raises:
            BundleError: The bundle is missing, incomplete, modified, invalid or of an unknown
                format, or its model does not answer.
        """
        folder, digest = to_path(folder, BundleError).absolute(), ""
        with suppress(OSError):  # which load_bundle explains
            digest = sha256_of(folder / MANIFEST)
        recommender = cls(load_bundle(folder), folder, digest)
        recommender._require_answers(folder)
        return recommender

    def __reduce__(self) -> tuple[Any, ...]:
        if self._folder is not None and self._folder.is_dir():
            return _load_same, (self._folder, self._digest, self.version)
        return type(self), (self.bundle,), {"version": self.version}

    def _require_answers(self, folder: str | Path) -> None:
        """Refuse a model that has nothing to recommend after one of ten histories."""
        ids = self.bundle.items.ids
        if len(ids) < 3:  # a history may have all items
            return
        first = np.unique(np.linspace(0, len(ids) - 1, _N_PROBES).astype(int)).tolist()
        histories = [
            ids[start : start + 1 + probe % 2].tolist() for probe, start in enumerate(first)
        ]
        answers = self.recommend_batch(histories, k=1)
        n_answers = int(np.isfinite(answers[columns.SCORE]).sum())
        if n_answers < len(histories):
            raise BundleError(
                f"{folder}: the model answers {n_answers} of {len(histories)} histories; its "
                "training may have diverged: use an earlier version, or train again"
            )

    def __repr__(self) -> str:
        histories = self.bundle.user_histories
        users = f", histories of {len(histories.users):,} users" if histories else ""
        return f"<Recommender of {len(self.bundle.items):,} items{users}>"

    def search(
        self, query: str = "", k: int = 10, *, include: ItemFilter | None = None
    ) -> Recommendations:
        """Search the catalogue by title, tolerating typos.

        Args:
            query: A title or a part of it. An empty query returns the most popular items.
            k: Maximum number of items.
            include: Search only these items.

        Returns:
            The items with all columns of the catalogue. `score` is 1 for an exact match and
            decreases with the similarity.
        """
        if not isinstance(query, str):
            raise QueryError(f"query is {shown(query)}: it must be text; index_of looks up ids")
        options = self._options(k, include)
        if query.strip():
            index, score = self.catalogue.search(query, options.k, options.allowed)
        else:
            _, index, score, _ = self._next(_EMPTY, options)
        return score_table(self.catalogue, index, score, attributes=True)

    def popular_items(
        self, k: int = 10, *, include: ItemFilter | None = None, exclude: ItemFilter = ()
    ) -> Recommendations:
        """The most popular items of the training.

        `probability` is an item's share of the interactions, with half an interaction added to each
        item: (n_i + 0.5) / (n + 0.5 n_items).
        """
        return ranking_table(self.catalogue, self._next(_EMPTY, self._options(k, include, exclude)))

    def similar_items(
        self,
        item: Item,
        k: int = 10,
        *,
        include: ItemFilter | None = None,
        exclude: ItemFilter = (),
        diversity: float = 0.0,
    ) -> Recommendations:
        """Items that co-occur with the same items; `score` is the cosine of the embeddings.

        An item without an embedding is represented by the mean vector of the items that share its
        genres. The result is empty if it has no genres either.
        """
        options = self._options(k, include, exclude, diversity)
        index, cosine = similar_to(
            self.bundle, self.scorer, self.catalogue, self.index_of(item), options
        )
        return score_table(self.catalogue, index, cosine)

    def similar_to_new_item(
        self,
        *,
        co_counts: Mapping[Item, float] | None = None,
        genres: Sequence[str] = (),
        k: int = 10,
        include: ItemFilter | None = None,
        exclude: ItemFilter = (),
        diversity: float = 0.0,
    ) -> Recommendations:
        """Items similar to one that is not in the catalogue.

        The new item is described by `co_counts`, for some items the number of users with a positive
        interaction with both that item and the new one: its vector is the least-squares fit to
        these counts (`recsys.embeddings.fold_in`). Or it is described by its `genres`: its vector
        is the mean of the items of these genres, weighted by the number of genres that they share.
        """
        options = self._options(k, include, exclude, diversity)
        vector_E = new_item_vector(
            self.scorer, self.catalogue, {} if co_counts is None else co_counts, genres
        )
        return score_table(self.catalogue, *nearest_to(self.scorer, vector_E, options))

    def next_items(
        self,
        history: Sequence[Item] = (),
        k: int = 10,
        *,
        include: ItemFilter | None = None,
        exclude: ItemFilter = (),
        diversity: float = 0.0,
        popularity_weight: float = 1.0,
        embedding_weight: float | None = None,
        exclude_seen: bool | None = None,
        unknown: Unknown = "raise",
    ) -> Recommendations:
        """Recommend the items that are most likely to come next.

        Args:
            history: Items of the user, oldest first. An empty history returns popular items.
            k: Maximum number of items.
            include: Recommend only these items, by id or title, by attribute or by a function; see
                `ItemFilter`.
            exclude: Do not recommend these items; as for `include`.
            diversity: From 0 to 1: penalty on items that are similar to others of the result.
            popularity_weight: From 0 to 1: share of the effect of popularity that remains in the
                score.
            embedding_weight: From 0 to 1: weight of the embeddings relative to the session model.
                By default 0.2 for a history of one item and 0 otherwise, which is best on
                validation data.
            exclude_seen: Whether to leave out items of the history. By default they are left out
                unless the model was trained on data in which items repeat.
            unknown: Whether unknown items of `history`, `include` and `exclude` are an error,
                "raise", or are left out, "ignore".

        Returns:
            `probability` is the session model's probability that the item comes next. `score`
            determines the order; it equals the probability unless weights change it, which by
            default they do only for histories of one item.
        """
        index = self.catalogue.history_indices(history, unknown=unknown)
        weights = diversity, popularity_weight, embedding_weight
        options = self._options(k, include, exclude, *weights, exclude_seen, unknown)
        return ranking_table(self.catalogue, self._next(index, options))

    def recommend_user(
        self,
        user_id: ID,
        k: int = 10,
        *,
        include: ItemFilter | None = None,
        exclude: ItemFilter = (),
        diversity: float = 0.0,
        popularity_weight: float = 1.0,
        embedding_weight: float | None = None,
        exclude_seen: bool | None = None,
    ) -> Recommendations:
        """`next_items` for a user whose history is in the bundle.

        Raises:
            UnknownUserError: The bundle has no history of this user, or no histories at all.
        """
        weights = diversity, popularity_weight, embedding_weight
        options = self._options(k, include, exclude, *weights, exclude_seen)
        users = self._user_histories.indices([user_id])
        return ranking_table(self.catalogue, self._rank_users(users, options))

    def recommend_users(
        self,
        user_ids: Sequence[ID] | None = None,
        k: int = 10,
        *,
        include: ItemFilter | None = None,
        exclude: ItemFilter = (),
        diversity: float = 0.0,
        popularity_weight: float = 1.0,
        embedding_weight: float | None = None,
        exclude_seen: bool | None = None,
    ) -> Recommendations:
        """`recommend_user` for several users, by default for all users of the bundle.

        Returns:
            The results one after another, with `user_id` as the first column.
        """
        weights = diversity, popularity_weight, embedding_weight
        options = self._options(k, include, exclude, *weights, exclude_seen)
        histories = self._user_histories
        if user_ids is None:
            users: NDArray[np.integer] = np.arange(len(histories.users))
        else:
            users = histories.indices(item_list("user_ids", user_ids))
        keys = {columns.USER_ID: histories.users.ids[users]}
        return ranking_table(self.catalogue, self._rank_users(users, options), keys)

    def recommend_batch(
        self,
        histories: Sequence[Sequence[Item]] | Mapping[ID, Sequence[Item]],
        k: int = 10,
        *,
        include: ItemFilter | None = None,
        exclude: ItemFilter = (),
        diversity: float = 0.0,
        popularity_weight: float = 1.0,
        embedding_weight: float | None = None,
        exclude_seen: bool | None = None,
        unknown: Unknown = "raise",
    ) -> Recommendations:
        """`next_items` for several histories: a list, or a mapping from user id to history.

        Returns:
            The results one after another. The first column is `user_id` for a mapping, and `row`
            (from 0) for a list.
        """
        weights = diversity, popularity_weight, embedding_weight
        options = self._options(k, include, exclude, *weights, exclude_seen, unknown)
        if isinstance(histories, str | bytes) or not isinstance(histories, Sequence | Mapping):
            raise QueryError("histories must be a list of histories, or a mapping by user id")
        if isinstance(histories, Mapping):
            key, by_key = columns.USER_ID, dict(histories)
        else:
            key, by_key = "row", dict(enumerate(histories))
        items = [
            self.catalogue.history_indices(history, f"histories[{shown(name)}]", unknown)
            for name, history in by_key.items()
        ]
        ranked = self.scorer.rank_batch(self.scorer.encode_batch(items), items, options)
        return ranking_table(self.catalogue, ranked, {key: _id_column(list(by_key))})

    def next_sequences(
        self,
        history: Sequence[Item] = (),
        length: int = 5,
        *,
        k: int | None = None,
        beam_width: int = 8,
        include: ItemFilter | None = None,
        exclude: ItemFilter = (),
        unknown: Unknown = "raise",
        on_step: Callable[[], object] = lambda: None,
    ) -> Recommendations:
        """The most probable sequences of next items, by beam search.

        Args:
            history: Items of the user, oldest first.
            length: Number of items of each sequence.
            k: Maximum number of sequences. Default: `beam_width`.
            beam_width: Number of sequences kept at each step, at least `k`.
            include: Use only these items.
            exclude: Do not use these items.
            unknown: See `next_items`.
            on_step: Called before each step of the computation, which it may stop by an exception.

        Returns:
            One row per item: `sequence` (from 1, the most probable first), `rank` within the
            sequence, `item_id`, `title`, `score`, the probability of the item given those before
            it, and `probability`, that of the whole sequence.
        """
        index = self.catalogue.history_indices(history, unknown=unknown)
        require(Callable, QueryError, on_step=on_step)
        length = to_int("length", length, error=QueryError)
        beam_width = to_int("beam_width", beam_width, error=QueryError)
        n = beam_width if k is None else to_int("k", k, error=QueryError)
        options = RecommendOptions.resolve(self.catalogue, 1, include, exclude, unknown=unknown)
        start = self.scorer.model.sequences(index)
        sequences = search_beams(start, length, max(beam_width, n), options.allowed, on_step)
        return sequences_table(self.catalogue, sequences[:n])

    def explain(
        self,
        history: Sequence[Item],
        items: Item | Sequence[Item] | None = None,
        k: int = 3,
        *,
        unknown: Unknown = "raise",
        on_step: Callable[[], object] = lambda: None,
    ) -> Recommendations:
        """Explain recommendations by the items of the history that contribute most to them.

        Args:
            history: Items of the user, oldest first.
            items: The item or items to explain. Default: the ten next items.
            k: Maximum number of contributions for each item.
            unknown: See `next_items`.
            on_step: Called before each step of the computation, which it may stop by an exception.

        Returns:
            One row per contribution: `item_id` and `title` of the recommended item, `rank`,
            `because_item_id` and `because_title` of the item of the history, `score`, the decrease
            of the recommended item's log-probability without it, `cooccurrence`, the number of
            users with a positive interaction with both (missing if the bundle does not have it),
            and `sentence`, all contributions in words.
        """
        index = self.catalogue.history_indices(history, unknown=unknown)
        require(Callable, QueryError, on_step=on_step)
        n_contributions = to_int("k", k, error=QueryError)
        if not len(index):
            raise QueryError("history is empty: there is nothing to explain with")
        if items is None:
            explained = self._next(index, RecommendOptions(10)).item.astype(np.int32)
        else:
            explained = items_to_explain(self.catalogue, items, index, repeats=self.scorer.repeats)
        model, counts = self.scorer.model, self.bundle.pair_counts
        return contributions_table(
            self.catalogue, model, counts, index, explained, n_contributions, on_step
        )

    def session(self, history: Sequence[Item] = (), *, unknown: Unknown = "raise") -> Session:
        """Create a session, which is extended item by item.

        Args:
            history: Items of the user so far, oldest first.
            unknown: See `next_items`.
        """
        index = self.catalogue.history_indices(history, unknown=unknown)
        return Session(self.catalogue, self.scorer, self.state_cache, index)

    def index_of(self, item: Item) -> int:
        """The index in the catalogue of an item given by id or by title."""
        return self.catalogue.index_of(item)

    def _options(self, k: int, *arguments: object) -> RecommendOptions:
        return RecommendOptions.resolve(self.catalogue, k, *arguments)

    def _next(self, history: NDArray[np.int32], options: RecommendOptions) -> RankedItems:
        query_D = self.scorer.model.encode(history).query
        return self.scorer.rank_next(query_D, history, options)

    @property
    def _user_histories(self) -> UserHistories:
        if self.bundle.user_histories is None:
            raise UnknownUserError(
                "this bundle has no user histories: pass the history to next_items, or create the "
                "bundle with include_user_histories = true"
            )
        return self.bundle.user_histories

    def _rank_users(self, users: NDArray[np.integer], options: RecommendOptions) -> RankedItems:
        histories = self._user_histories
        items = [histories.history(user) for user in users.tolist()]
        return self.scorer.rank_batch(histories.state_vectors[users], items, options)


def _id_column(ids: list[Any]) -> NDArray[Any]:
    """Ids as a column: integers if all of them are, else objects."""
    if all(type(external) is int for external in ids):
        for dtype in (np.int64, np.uint64):
            with suppress(OverflowError):
                return np.array(ids, dtype=dtype)
    return np.fromiter(ids, object, len(ids))  # one object each, also of tuples


def _load_same(folder: Path, digest: str, version: str) -> Recommender:
    """Unpickle a recommender from its folder."""
    recommender = Recommender.load(folder)
    if recommender.version != digest:
        raise BundleError(f"{folder} was replaced after the recommender was pickled: load it again")
    recommender.version = version
    return recommender
