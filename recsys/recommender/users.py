"""Users whose histories the bundle holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.errors import UnknownUserError
from recsys.recommender.arguments import items_of
from recsys.recommender.batches import rank_many
from recsys.recommender.bundle import Bundle, Histories
from recsys.recommender.scoring import Ranked, Scoring
from recsys.recommender.wishes import Wishes
from recsys.vocabulary import ID


def histories_of(bundle: Bundle) -> Histories:
    """The histories of a bundle.

    Raises:
        UnknownUserError: it holds none.
    """
    if bundle.histories is None:
        raise UnknownUserError(
            "this bundle holds no histories: pass them to next_items, or make the bundle "
            "with histories"
        )
    return bundle.histories


def users_of(histories: Histories, user_ids: Sequence[ID] | None) -> NDArray[np.integer]:
    """The positions of users among the histories, [B]; None takes all.

    Raises:
        UnknownUserError: one of them is not there.
    """
    if user_ids is None:
        return np.arange(len(histories.users))
    named = items_of("user_ids", user_ids)
    users = histories.users.indices(np.array(named, dtype=object))
    if (users < 0).any():
        unknown = named[int(np.argmax(users < 0))]
        raise UnknownUserError(f"the bundle holds no history of user {unknown!r}")
    return users


def rank_for(
    scoring: Scoring, histories: Histories, users: NDArray[np.integer], wishes: Wishes
) -> Ranked:
    """Rank for users by their positions; what the session model expects is known of each."""
    watched = [histories.history(user) for user in users.tolist()]
    return rank_many(scoring, histories.expected[users], watched, wishes)
