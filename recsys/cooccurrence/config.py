"""What is counted: which rows, and whether by set or within a window."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys.config import Config


class Window(Config):
    """Count pairs of watches that lie close together, instead of pairs within a whole history.

    A user's watches that count (`min_rating`) are numbered in their order; the distance of two
    is the difference of their numbers. Two watches of the same item are no pair, but lie between
    others.
    """

    size: int = Field(default=5, ge=1)
    """The largest distance that counts: 1 pairs neighbours only."""

    direction: Literal["symmetric", "forward"] = "symmetric"
    """`both`: X_ij = X_ji counts pairs in either order. `after`: X_ij counts only those where i
    was watched before j."""

    repeats: Literal["count_events", "count_users"] = "count_events"
    """Where a user has several pairs of watches of i and j: `events` counts each of them,
    `users` only the one that weighs most."""

    decay: Literal["none", "harmonic", "linear"] = "none"
    """Weight of a pair at distance d: 1; 1/d (GloVe: Pennington, Socher & Manning 2014, §4.2); or
    (size − d + 1)/size (what word2vec's random windows amount to: Levy, Goldberg & Dagan 2015,
    §3.1)."""

    half_life_days: float | None = Field(default=None, gt=0)
    """Halve the weight of a pair for each so many days between its watches."""

    @property
    def is_decayed(self) -> bool:
        """Whether pairs weigh fractions."""
        return self.decay != "none" or self.half_life_days is not None


class CooccurrenceConfig(Config):
    """What counts as liking an item, and which pairs of likes count."""

    min_rating: float | None = 4.0
    """The lowest rating that counts as "liked"; None counts every row, as does data without
    ratings."""

    window: Window | None = None
    """Count only pairs within a window; None counts pairs within a whole history, where X_ij is
    the number of users who liked both i and j."""
