"""The recommendation API: answers from a saved bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys import columns
from recsys.bundle import Bundle, Histories, load_bundle
from recsys.errors import QueryError, UnknownUserError
from recsys.recommender import batches, cold, tables
from recsys.recommender.answers import Recommendations
from recsys.recommender.arguments import count_of, items_of, share_of
from recsys.recommender.catalogue import Catalogue, Choice, Item
from recsys.recommender.explaining import reasons_for
from recsys.recommender.scoring import Ranked, Scoring, Wishes
from recsys.recommender.sessions import Session, States
from recsys.recommender.watch_lists import beam_search
from recsys.vocabulary import ID

_NOTHING = np.empty(0, dtype=np.int32)


class Recommender:
    """Recommends from one bundle. Items are named by id or by title.

    Every answer is a DataFrame, best first: `rank` (from one), `item_id`, `title`, `score`, and
    `probability` where it is one; `as_records()` gives it as a list of dictionaries. Nothing that
    is asked changes a recommender, so that threads may share one.

    Several methods take the same wishes:

    - `k`: how many items, at most.
    - `exclude`: items not to recommend; `only`: recommend from these alone. Both by name, by
      attribute or by function, see `Choice`.
    - `diversity`, from 0 to 1: how much to avoid items that are like others of the answer.
    - `popularity_bias`, from 0 to 1: how much of the pull of popular items to leave; 1 leaves all.
    - `blend`, from 0 to 1: the weight of the embeddings (what is liked by the same people) beside
      the session model (what is watched after what). None takes what did best on validation: 0.2
      after a single watch, of which the session model makes little, and else 0.

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

    def items(self, query: str = "", k: int = 10, *, only: Choice | None = None) -> Recommendations:
        """Search the catalogue by title, typing errors forgiven.

        Args:
            query: what someone typed; if empty, the most popular items are listed.
            k: how many, at most.
            only: search among these alone.

        Returns:
            The columns of the catalogue, `genres` among them where known; `score` is 1 for the
            title itself and falls with likeness.
        """
        if not isinstance(query, str):
            raise QueryError(f"query is {query!r}: it has to be text; index_of looks up ids")
        wishes = self.wishes(k, (), only)
        if not query.strip():
            popular = self._popular(wishes)
            return tables.with_attributes(self.catalogue, popular.index, popular.score)
        found, score = self.catalogue.search(query, wishes.k, wishes.allowed)
        return tables.with_attributes(self.catalogue, found, score)

    def popular_items(
        self, k: int = 10, *, exclude: Choice = (), only: Choice | None = None
    ) -> Recommendations:
        """What is watched most; `probability` is the share of all watches."""
        return self.answer(self._popular(self.wishes(k, exclude, only)))

    def similar_items(
        self,
        item: Item,
        k: int = 10,
        *,
        exclude: Choice = (),
        only: Choice | None = None,
        diversity: float = 0.0,
    ) -> Recommendations:
        """Items liked by the same people; `score` is the cosine of the embeddings.

        An item that nobody liked together with another has no vector of its own; the mean vector
        of the items that share its genres takes its place. If it has no genres either, the answer
        is empty.
        """
        wishes = self.wishes(k, exclude, only, diversity)
        return tables.similar(self.catalogue, cold.similar(self, self.index_of(item), wishes))

    def similar_to_new_item(
        self,
        *,
        liked_with: Mapping[Item, float] | None = None,
        genres: Sequence[str] = (),
        k: int = 10,
        exclude: Choice = (),
        only: Choice | None = None,
        diversity: float = 0.0,
    ) -> Recommendations:
        """Items like one that the catalogue does not hold yet.

        Args:
            liked_with: how many people liked both it and an item, for some items. The new item's
                vector is the one that fits these counts best (`recsys.embeddings.fold_in`).
            genres: its genres, where there are no counts: the mean vector of the items of these
                genres, nearer the more of them they share.
            k: how many, at most.
            exclude: items not to list.
            only: list only from these.
            diversity: how much to avoid items that are like others of the answer.
        """
        wishes = self.wishes(k, exclude, only, diversity)
        vector_E = cold.fold_in(self, liked_with or {}, genres)
        return tables.similar(self.catalogue, cold.near(self, vector_E, wishes))

    def next_items(
        self,
        history: Sequence[Item] = (),
        k: int = 10,
        *,
        exclude: Choice = (),
        only: Choice | None = None,
        diversity: float = 0.0,
        popularity_bias: float = 1.0,
        blend: float | None = None,
    ) -> Recommendations:
        """What is likely to be watched next.

        Args:
            history: what was watched, oldest first; never recommended again. Where it is empty,
                what is popular is recommended.
            k: how many, at most.
            exclude: other items not to recommend.
            only: recommend only from these.
            diversity: how much to avoid items that are like others of the answer.
            popularity_bias: how much of the pull of popular items to leave.
            blend: the weight of the embeddings beside the session model.

        Returns:
            `probability` is the session model's, that the item is watched next; `score` is what
            the items are ranked by. Without blend and correction the two are the same, as by
            default they are for histories of two watches or more.
        """
        watched = self.catalogue.indices("history", history)
        wishes = self.wishes(k, exclude, only, diversity, popularity_bias, blend)
        return self.answer(self._next(watched, wishes))

    def recommend_user(
        self,
        user_id: ID,
        k: int = 10,
        *,
        exclude: Choice = (),
        only: Choice | None = None,
        diversity: float = 0.0,
        popularity_bias: float = 1.0,
        blend: float | None = None,
    ) -> Recommendations:
        """`next_items` for a user whose history the bundle holds.

        Raises:
            UnknownUserError: the bundle holds no history of this user, or no histories at all.
        """
        wishes = self.wishes(k, exclude, only, diversity, popularity_bias, blend)
        return self.answer(self._for_users(self._users([user_id]), wishes))

    def recommend_users(
        self,
        user_ids: Sequence[ID] | None = None,
        k: int = 10,
        *,
        exclude: Choice = (),
        only: Choice | None = None,
        diversity: float = 0.0,
        popularity_bias: float = 1.0,
        blend: float | None = None,
    ) -> Recommendations:
        """`recommend_user` for many at once; None takes all users of the bundle.

        Returns:
            All lists one after the other, with `user_id` as the first column.
        """
        wishes = self.wishes(k, exclude, only, diversity, popularity_bias, blend)
        users = self._users(user_ids)
        ranked = self._for_users(users, wishes)
        return batches.table(
            self.catalogue, ranked, columns.USER_ID, self._histories().users.ids[users]
        )

    def recommend_batch(
        self,
        histories: Sequence[Sequence[Item]] | Mapping[ID, Sequence[Item]],
        k: int = 10,
        *,
        exclude: Choice = (),
        only: Choice | None = None,
        diversity: float = 0.0,
        popularity_bias: float = 1.0,
        blend: float | None = None,
    ) -> Recommendations:
        """`next_items` for many at once.

        Args:
            histories: one for each user, by `user_id` or in order.
            k: how many for each, at most.
            exclude: other items not to recommend.
            only: recommend only from these.
            diversity: how much to avoid items that are like others of the same list.
            popularity_bias: how much of the pull of popular items to leave.
            blend: the weight of the embeddings beside the session model.

        Returns:
            All lists one after the other, with `user_id` as the first column, or `row` (from
            zero) where the histories had no names.
        """
        wishes = self.wishes(k, exclude, only, diversity, popularity_bias, blend)
        if isinstance(histories, str | bytes) or not isinstance(histories, Sequence | Mapping):
            raise QueryError("histories has to be a list of histories, or histories by user_id")
        by_name = isinstance(histories, Mapping)
        named = dict(histories) if isinstance(histories, Mapping) else dict(enumerate(histories))
        watched = [
            self.catalogue.indices(f"histories[{name!r}]", history)
            for name, history in named.items()
        ]
        expected_BD = batches.expected_after(self.scoring.model, watched)
        ranked = batches.rank_many(self.scoring, expected_BD, watched, wishes)
        first = columns.USER_ID if by_name else "row"
        return batches.table(self.catalogue, ranked, first, batches.names_of(list(named)))

    def watch_list(
        self,
        history: Sequence[Item] = (),
        steps: int = 5,
        *,
        beam_width: int = 8,
        exclude: Choice = (),
        only: Choice | None = None,
    ) -> Recommendations:
        """Whole sequences of what could be watched next, the most probable first.

        Args:
            history: what was watched, oldest first.
            steps: how many items a sequence has.
            beam_width: how many sequences are followed, and given back at most.
            exclude: items that shall not occur.
            only: take items only from these.

        Returns:
            A row for each item of each sequence: `list` (from one, the most probable first),
            `rank` within the list, `item_id`, `title`, `score`, the probability of this item
            after those before it, and `probability`, that of the whole list.
        """
        watched = self.catalogue.indices("history", history)
        n_steps, width = count_of("steps", steps), count_of("beam_width", beam_width, "list")
        allowed_N = self.wishes(1, exclude, only).allowed
        lists = beam_search(self.scoring.model, watched, n_steps, width, allowed_N)
        return tables.watch_lists(self.catalogue, lists)

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
            the logarithm of the recommended item's probability falls without it, `liked_both`, how
            many people liked both (missing where the bundle does not hold it), and `sentence`, all
            of the item's reasons in words.
        """
        watched = self.catalogue.indices("history", history)
        n_reasons = count_of("k", k, "reason")
        if not len(watched):
            raise QueryError("history is empty: there is nothing that could be a reason")
        if items is None:
            chosen = self._next(watched, Wishes(10)).index.astype(np.int32)
        else:
            named = (
                [items] if isinstance(items, str | int | np.generic) else items_of("items", items)
            )
            chosen = self.catalogue.indices("items", named)
        again = np.intersect1d(chosen, watched)
        if len(again):
            title = self.catalogue.titles[again[0]]
            raise QueryError(f"{title!r} stands in the history: only what is new is recommended")
        model, counts = self.scoring.model, self.bundle.counts
        reasons = reasons_for(model, counts, watched, chosen, n_reasons)
        return tables.explanations(self.catalogue, chosen, reasons)

    def session(self, history: Sequence[Item] = ()) -> Session:
        """A session that goes on, film by film, at the same cost for each.

        Args:
            history: what was watched before, oldest first.
        """
        return Session(self, self.catalogue.indices("history", history))

    def index_of(self, item: Item) -> int:
        """The position in the catalogue of an item named by id or by title."""
        return self.catalogue.index_of(item)

    def wishes(
        self,
        k: int,
        exclude: Choice = (),
        only: Choice | None = None,
        diversity: float = 0.0,
        popularity_bias: float = 1.0,
        blend: float | None = None,
    ) -> Wishes:
        """Check what is asked for, and look the chosen items up."""
        allowed: NDArray[np.bool_] | None = None
        if only is not None:
            allowed = self.catalogue.mask("only", only).copy()
        if not _is_empty(exclude):
            excluded_N = self.catalogue.mask("exclude", exclude)
            allowed = ~excluded_N if allowed is None else allowed & ~excluded_N
        return Wishes(
            min(count_of("k", k), len(self.catalogue)),
            allowed,
            share_of("diversity", diversity),
            share_of("popularity_bias", popularity_bias),
            None if blend is None else share_of("blend", blend),
        )

    def answer(self, ranked: Ranked) -> Recommendations:
        """A ranking as it is given back."""
        return tables.ranking(self.catalogue, ranked)

    def _next(self, watched: NDArray[np.int32], wishes: Wishes) -> Ranked:
        model = self.scoring.model
        logits_N = model.logits(model.after(watched))
        return self.scoring.rank(logits_N[None], [watched], wishes)

    def _popular(self, wishes: Wishes) -> Ranked:
        return self._next(_NOTHING, wishes)

    def _histories(self) -> Histories:
        if self.bundle.histories is None:
            raise UnknownUserError(
                "this bundle holds no histories: pass them to next_items, or make the bundle "
                "with histories"
            )
        return self.bundle.histories

    def _users(self, user_ids: Sequence[ID] | None) -> NDArray[np.integer]:
        """The positions of users among the histories, [B]."""
        histories = self._histories()
        if user_ids is None:
            return np.arange(len(histories.users))
        named = items_of("user_ids", user_ids)
        users = histories.users.indices(np.array(named, dtype=object))
        if (users < 0).any():
            unknown = named[int(np.argmax(users < 0))]
            raise UnknownUserError(f"the bundle holds no history of user {unknown!r}")
        return users

    def _for_users(self, users: NDArray[np.integer], wishes: Wishes) -> Ranked:
        histories = self._histories()
        watched = [histories.history(user) for user in users.tolist()]
        return batches.rank_many(self.scoring, histories.expected[users], watched, wishes)


def _is_empty(choice: object) -> bool:
    return isinstance(choice, Sequence) and not isinstance(choice, str) and not len(choice)
