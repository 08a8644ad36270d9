"""The recommendation API: answers from a saved bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from recsys import columns
from recsys.errors import QueryError
from recsys.recommender import batches, cold, tables, users
from recsys.recommender.answers import Recommendations
from recsys.recommender.arguments import count_of
from recsys.recommender.bundle import Bundle, load_bundle
from recsys.recommender.catalogue import Catalogue, Item, ItemFilter
from recsys.recommender.explaining import explained_items, reasons_for
from recsys.recommender.scoring import Ranked, Scoring
from recsys.recommender.sequences import beam_search
from recsys.recommender.sessions import Session, States
from recsys.recommender.wishes import (
    ItemWishes,
    ListWishes,
    NextWishes,
    Wishes,
    taking,
    wishes_of,
)
from recsys.vocabulary import ID

_NOTHING = np.empty(0, dtype=np.int32)


class Recommender:
    """Recommends from one bundle. Items are named by id or by title.

    Every answer is a DataFrame, best first: `rank` (from one), `item_id`, `title`, `score`, and
    `probability` where it is one; `as_records()` gives it as a list of dictionaries. Nothing that
    is asked changes a recommender, so that threads may share one.

    Several methods take the same wishes:

    - `k`: how many items, at most.
    - `exclude`: items not to recommend; `include`: recommend from these alone. Both by name, by
      attribute or by function, see `ItemFilter`.
    - `diversity`, from 0 to 1: how much to avoid items that are like others of the answer.
    - `popularity_weight`, from 0 to 1: how much of the pull of popular items to
      leave; 1 leaves all.
    - `embedding_weight`, from 0 to 1: the weight of the embeddings (what is liked by the same
      people) relative to the session model (what is watched after what). None takes what did
      best on validation: 0.2 after a single watch, and else 0.

    Raises, in all of them:
        UnknownItemError: the catalogue has no such item, or several; tells the closest titles.
        QueryError: an argument is not what it has to be. Both are a ValueError as well.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.scoring = Scoring(bundle)
        self.catalogue = Catalogue(
            bundle.catalogue, bundle.items, self.scoring.model.log_popularity_N
        )
        self.states = States(self.scoring.model)

    @classmethod
    def load(cls, folder: str | Path) -> Recommender:
        """Load and verify a bundle folder.

        Raises:
            BundleError: it is missing, incomplete, altered, or of an unknown format.
        """
        return cls(load_bundle(Path(folder)))

    def search(
        self, query: str = "", k: int = 10, *, include: ItemFilter | None = None
    ) -> Recommendations:
        """Search the catalogue by title, typing errors forgiven.

        Args:
            query: what someone typed; if empty, the most popular items are listed.
            k: how many, at most.
            include: search among these alone.

        Returns:
            The columns of the catalogue, `genres` among them where known; `score` is 1 for the
            title itself and falls with likeness.
        """
        if not isinstance(query, str):
            raise QueryError(f"query is {query!r}: it has to be text; index_of looks up ids")
        asked = self._wishes(k, {"include": include})
        if not query.strip():
            popular = self._popular(asked)
            return tables.with_attributes(self.catalogue, popular.index, popular.score)
        found, score = self.catalogue.search(query, asked.k, asked.allowed)
        return tables.with_attributes(self.catalogue, found, score)

    @taking(ItemWishes)
    def popular_items(self, k: int = 10, **wishes: Unpack[ItemWishes]) -> Recommendations:
        """What is watched most; `probability` is the share of all watches."""
        return self.answer(self._popular(self._wishes(k, wishes, ItemWishes)))

    @taking(ListWishes)
    def similar_items(
        self,
        item: Item,
        k: int = 10,
        **wishes: Unpack[ListWishes],
    ) -> Recommendations:
        """Items liked by the same people; `score` is the cosine of the embeddings.

        An item that nobody liked together with another has no vector of its own; the mean vector
        of the items that share its genres takes its place. If it has no genres either, the answer
        is empty.
        """
        asked = self._wishes(k, wishes, ListWishes)
        return tables.similar(self.catalogue, cold.similar(self, self.index_of(item), asked))

    @taking(ListWishes)
    def similar_to_new_item(
        self,
        *,
        co_counts: Mapping[Item, float] | None = None,
        genres: Sequence[str] = (),
        k: int = 10,
        **wishes: Unpack[ListWishes],
    ) -> Recommendations:
        """Items like one that the catalogue does not hold yet.

        Args:
            co_counts: how many people liked both it and an item, for some items. The new item's
                vector is the one that fits these counts best (`recsys.embeddings.fold_in`).
            genres: its genres, where there are no counts: the mean vector of the items of these
                genres, nearer the more of them they share.
            k: how many, at most.
            exclude: items not to list.
            include: list only from these.
            diversity: how much to avoid items that are like others of the answer.
        """
        asked = self._wishes(k, wishes, ListWishes)
        vector_E = cold.fold_in(self, co_counts or {}, genres)
        return tables.similar(self.catalogue, cold.near(self, vector_E, asked))

    @taking(NextWishes)
    def next_items(
        self,
        history: Sequence[Item] = (),
        k: int = 10,
        **wishes: Unpack[NextWishes],
    ) -> Recommendations:
        """What is likely to be watched next.

        Args:
            history: what was watched, oldest first; never recommended again. Where it is empty,
                what is popular is recommended.
            k: how many, at most.
            exclude: other items not to recommend.
            include: recommend only from these.
            diversity: how much to avoid items that are like others of the answer.
            popularity_weight: how much of the pull of popular items to leave.
            embedding_weight: the weight of the embeddings beside the session model.

        Returns:
            `probability` is the session model's, that the item is watched next; `score` is what
            the items are ranked by. Without blend and correction the two are the same, as by
            default they are for histories of two watches or more.
        """
        watched = self.catalogue.indices("history", history)
        asked = self._wishes(k, wishes)
        return self.answer(self._next(watched, asked))

    @taking(NextWishes)
    def recommend_user(
        self,
        user_id: ID,
        k: int = 10,
        **wishes: Unpack[NextWishes],
    ) -> Recommendations:
        """`next_items` for a user whose history the bundle holds.

        Raises:
            UnknownUserError: the bundle holds no history of this user, or no histories at all.
        """
        asked = self._wishes(k, wishes)
        histories = users.histories_of(self.bundle)
        which = users.users_of(histories, [user_id])
        return self.answer(users.rank_for(self.scoring, histories, which, asked))

    @taking(NextWishes)
    def recommend_users(
        self,
        user_ids: Sequence[ID] | None = None,
        k: int = 10,
        **wishes: Unpack[NextWishes],
    ) -> Recommendations:
        """`recommend_user` for many at once; None takes all users of the bundle.

        Returns:
            All lists one after the other, with `user_id` as the first column.
        """
        asked = self._wishes(k, wishes)
        histories = users.histories_of(self.bundle)
        which = users.users_of(histories, user_ids)
        ranked = users.rank_for(self.scoring, histories, which, asked)
        names = histories.users.ids[which]
        return batches.table(self.catalogue, ranked, columns.USER_ID, names)

    @taking(NextWishes)
    def recommend_batch(
        self,
        histories: Sequence[Sequence[Item]] | Mapping[ID, Sequence[Item]],
        k: int = 10,
        **wishes: Unpack[NextWishes],
    ) -> Recommendations:
        """`next_items` for many at once.

        Args:
            histories: one for each user, by `user_id` or in order.
            k: how many for each, at most.
            exclude: other items not to recommend.
            include: recommend only from these.
            diversity: how much to avoid items that are like others of the same list.
            popularity_weight: how much of the pull of popular items to leave.
            embedding_weight: the weight of the embeddings beside the session model.

        Returns:
            All lists one after the other, with `user_id` as the first column, or `row` (from
            zero) where the histories had no names.
        """
        asked = self._wishes(k, wishes)
        first, names, watched = batches.histories_of(self.catalogue, histories)
        expected_BD = batches.expected_after(self.scoring.model, watched)
        ranked = batches.rank_many(self.scoring, expected_BD, watched, asked)
        return batches.table(self.catalogue, ranked, first, names)

    @taking(ItemWishes)
    def next_sequences(
        self,
        history: Sequence[Item] = (),
        length: int = 5,
        *,
        beam_width: int = 8,
        **wishes: Unpack[ItemWishes],
    ) -> Recommendations:
        """Whole sequences of what could be watched next, the most probable first.

        Args:
            history: what was watched, oldest first.
            length: how many items a sequence has.
            beam_width: how many sequences are followed, and given back at most.
            exclude: items that shall not occur.
            include: take items only from these.

        Returns:
            A row for each item of each sequence: `sequence` (from one, the most probable first),
            `rank` within the list, `item_id`, `title`, `score`, the probability of this item
            after those before it, and `probability`, that of the whole list.
        """
        watched = self.catalogue.indices("history", history)
        n_steps, width = count_of("length", length), count_of("beam_width", beam_width, "sequence")
        allowed_N = self._wishes(1, wishes, ItemWishes).allowed
        lists = beam_search(self.scoring.model, watched, n_steps, width, allowed_N)
        return tables.sequences(self.catalogue, lists)

    def explain(
        self, history: Sequence[Item], items: Item | Sequence[Item] | None = None, k: int = 3
    ) -> Recommendations:
        """Why items are recommended: which of the watched items speak for them.

        Args:
            history: what was watched, oldest first.
            items: what is to be explained, one or several; None takes the ten next items.
            k: how many reasons for each, at most.

        Returns:
            A row for each reason: `item_id` and `title` of the recommended item, `rank` of the
            reason, `because_item_id` and `because_title` of the watched item, `score`, by how much
            the logarithm of the recommended item's probability falls without it, `cooccurrence`,
            how many people liked both (missing where the bundle
            does not hold it), and `sentence`, all
            of the item's reasons in words.
        """
        watched = self.catalogue.indices("history", history)
        n_reasons = count_of("k", k, "reason")
        if not len(watched):
            raise QueryError("history is empty: there is nothing that could be a reason")
        if items is None:
            chosen = self._next(watched, Wishes(10)).index.astype(np.int32)
        else:
            chosen = explained_items(self.catalogue, items, watched)
        model, counts = self.scoring.model, self.bundle.counts
        reasons = reasons_for(model, counts, watched, chosen, n_reasons)
        return tables.explanations(self.catalogue, chosen, reasons)

    def session(self, history: Sequence[Item] = ()) -> Session:
        """A session that goes on, film by film, at the same cost for each.

        Args:
            history: what was watched before, oldest first.
        """
        return Session(self, self.catalogue.indices("history", history))

    def parse_item(self, text: str) -> Item:
        """An id or a title from text; digits are an id if the catalogue has that id."""
        return self.catalogue.parse_item(text)

    def index_of(self, item: Item) -> int:
        """The position in the catalogue of an item named by id or by title."""
        return self.catalogue.index_of(item)

    def answer(self, ranked: Ranked) -> Recommendations:
        """A ranking as it is given back."""
        return tables.ranking(self.catalogue, ranked)

    def _wishes(
        self, k: int, asked: Mapping[str, object], kind: type[ItemWishes] = NextWishes
    ) -> Wishes:
        return wishes_of(self.catalogue, k, asked, kind)

    def _next(self, watched: NDArray[np.int32], wishes: Wishes) -> Ranked:
        model = self.scoring.model
        logits_N = model.logits(model.encode(watched))
        return self.scoring.rank(logits_N[None], [watched], wishes)

    def _popular(self, wishes: Wishes) -> Ranked:
        return self._next(_NOTHING, wishes)
