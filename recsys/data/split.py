"""Chronological splits: what to learn from, and which later watches to predict."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.data.interactions import Interactions

Target = Literal["validation", "test"]

# How many of a user's last watches lie after the history that the target is predicted from.
_HELD_BACK: dict[Target, int] = {"validation": 2, "test": 1}


@dataclass(frozen=True, eq=False)
class LeaveLastOut:
    """Each user's last watch is the test target, the one before it the validation target.

    Models learn from `train` alone. A test target is predicted from all that was watched
    before it, the validation target included. Users with fewer than three watches have no
    targets; all their watches are in `train`.
    """

    interactions: Interactions

    @cached_property
    def users(self) -> NDArray[np.int64]:
        """Indices of the users that have targets, ascending, [n]."""
        return np.flatnonzero(self.interactions.history_lengths >= 3)

    @cached_property
    def train(self) -> Interactions:
        """All interactions but the targets."""
        keep = np.ones(len(self.interactions), dtype=np.bool_)
        ends = self.interactions.user_offsets[self.users + 1]
        for held_back in _HELD_BACK.values():
            keep[ends - held_back] = False
        return self.interactions.keep(keep)

    def targets(self, target: Target) -> NDArray[np.int32]:
        """The item to predict for each of `users`, [n]."""
        ends = self.interactions.user_offsets[self.users + 1]
        return self.interactions.item_index[ends - _HELD_BACK[target]]

    def histories(self, target: Target) -> list[NDArray[np.int32]]:
        """What each of `users` had watched before the target, oldest first."""
        held_back = _HELD_BACK[target]
        return [self.interactions.history(user)[:-held_back] for user in self.users]

    def fingerprint(self, target: Target) -> dict[str, str | int]:
        """What must agree for two results to be comparable."""
        targets = self.targets(target)
        sha = hashlib.sha256(self.users.tobytes() + targets.tobytes())
        return {
            "protocol": "leave-last-out",
            "target": target,
            "ranking": "whole catalogue, seen items masked, ties by item index",
            "n_items": self.interactions.n_items,
            "n_users": len(self.users),
            "data_digest": self.interactions.digest,
            "targets_digest": sha.hexdigest(),
        }


def leave_last_out(interactions: Interactions) -> LeaveLastOut:
    """Split by time within each user: last watch for test, the one before for validation.

    Example:
        >>> import pandas as pd
        >>> from recsys.data.read import read_ratings
        >>> log = pd.DataFrame({"user_id": [1, 1, 1, 1], "item_id": [10, 20, 30, 40]})
        >>> split = leave_last_out(read_ratings(log))
        >>> split.train.history(0).tolist()
        [0, 1]
        >>> split.targets("validation").tolist(), split.targets("test").tolist()
        ([2], [3])
        >>> split.histories("test")[0].tolist()
        [0, 1, 2]
    """
    return LeaveLastOut(interactions)
