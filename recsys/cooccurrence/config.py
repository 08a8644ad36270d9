"""Settings of the co-occurrence counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from recsys.arguments import to_number
from recsys.config import Config

if TYPE_CHECKING:
    from recsys.data import Interactions


class Window(Config):
    """Count pairs of interactions that are close together, instead of all pairs of a history.

    The positive interactions of a user (`min_rating`) are numbered in order. The distance of two
    interactions is the difference of their numbers. Two interactions with the same item are not
    a pair, but they do take up positions.
    """

    size: int = Field(default=5, ge=1, le=1_000_000)
    """Largest distance that counts; 1 counts only adjacent interactions."""

    direction: Literal["symmetric", "forward"] = "symmetric"
    """`symmetric`: X_ij = X_ji counts pairs in either order. `forward`: X_ij counts only pairs in
    which i comes before j."""

    repeats: Literal["count_events", "count_users"] = "count_events"
    """How to count several pairs of i and j of the same user. `count_events`: add all of them.
    `count_users`: use only the one with the largest weight."""

    decay: Literal["none", "harmonic", "linear"] = "none"
    """Weight of a pair at distance d: 1; 1/d (GloVe: Pennington, Socher & Manning 2014, §4.2); or
    (size − d + 1)/size, the expected weight under word2vec's random window sizes (Levy, Goldberg
    & Dagan 2015, §3.1)."""

    half_life_days: float | None = Field(default=None, gt=0)
    """Half-life of the weight, in days between the two interactions. None: time is ignored."""

    @property
    def is_decayed(self) -> bool:
        """Whether weights can be fractions."""
        return self.decay != "none" or self.half_life_days is not None

    @property
    def divisor(self) -> int:
        """Weights are whole numbers divided by this, so that sums do not depend on the order."""
        return 2**20 if self.is_decayed else 1


MinRating = float | Literal["auto"] | None
"""See `CooccurrenceConfig.min_rating`."""


class CooccurrenceConfig(Config):
    """Which interactions are positive, and which pairs of them count."""

    min_rating: MinRating = "auto"
    """Lowest rating of a positive interaction. `auto`: 0.8 of the highest of the rating scale, such
    as 4 of 5 and 8 of 10. None counts every interaction, as does data without a scale."""

    window: Window | None = None
    """Count only pairs within a window. None counts all pairs of a history: X_ij is the number of
    users with both i and j."""

    def resolve(self, interactions: Interactions) -> CooccurrenceConfig:
        """These settings with the lowest positive rating of some interactions for `auto`."""
        return self.model_copy(
            update={"min_rating": resolve_min_rating(self.min_rating, interactions)}
        )


def resolve_min_rating(min_rating: MinRating, interactions: Interactions) -> float | None:
    """The lowest positive rating of some interactions for `auto`, or what is given."""
    if isinstance(min_rating, str) and min_rating == "auto":
        return interactions.positive_rating
    return None if min_rating is None else to_number("min_rating", min_rating)
