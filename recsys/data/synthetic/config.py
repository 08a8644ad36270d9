"""How many viewers and films, how they behave, and where their random numbers come from."""

from __future__ import annotations

from typing import Final

import numpy as np
from pydantic import Field, model_validator

from recsys.config import Config

GENRES: Final = (
    "Drama", "Comedy", "Thriller", "Romance", "Sci-Fi", "Adventure", "Crime", "Horror", "Mystery",
    "Fantasy", "Animation", "War", "Western", "Musical", "Documentary", "Children", "Action",
    "Film-Noir",
)  # fmt: skip

_BLOCK_RATINGS: Final = 500_000  # about 100 MB while a block is made
_CATALOGUE_STREAM, _VIEWERS_STREAM = 0, 1


class SyntheticConfig(Config):
    """How many viewers and films, and how they behave."""

    n_users: int = Field(default=400, ge=1)
    """Viewers."""
    n_items: int = Field(default=300, ge=10, le=200_000)
    """Films in the catalogue; the least loved may stay unwatched."""
    mean_events: int = Field(default=60, ge=5)
    """Ratings per viewer, about, on average; half the films at most."""
    n_tastes: int = Field(default=6, ge=1, le=len(GENRES))
    """Groups of films that please the same viewers; each has a genre of its own."""
    taste_breadth: float = Field(default=0.6, gt=0)
    """Concentration of the Dirichlet that gives a viewer's tastes: small means few tastes each."""
    popularity_exponent: float = Field(default=1.0, ge=0)
    """The appeal of the title ranked r is r to minus this power."""
    franchise_share: float = Field(default=0.25, ge=0, le=1)
    """Share of titles that have sequels, two to five films in all."""
    sequel_appetite: float = Field(default=0.75, ge=0, lt=1)
    """Chance of going on to the next film of a franchise rather than giving it up."""
    titles_per_sitting: int = Field(default=3, ge=1)
    """Titles, a franchise being one, watched back to back before a break of days."""
    planted_pairs: int = Field(default=0, ge=0)
    """Pairs of popular films that the same viewers watch one after the other and rate alike, so
    that each is the other's nearest neighbour, given ten viewers or so; at most one pair for ten
    films. They are no franchises: their titles tell nothing of it."""
    seed: int = Field(default=0, ge=0)
    """The same seed gives the same ratings."""

    @model_validator(mode="after")
    def _enough_films(self) -> SyntheticConfig:
        if 2 * self.mean_events > self.n_items:
            raise ValueError(
                f"mean_events {self.mean_events} is more than half of n_items {self.n_items}: "
                "lower mean_events or raise n_items"
            )
        if 10 * self.planted_pairs > self.n_items:
            raise ValueError(
                f"planted_pairs {self.planted_pairs} is more than a tenth of n_items "
                f"{self.n_items}: lower planted_pairs or raise n_items"
            )
        return self

    @property
    def users_per_block(self) -> int:
        """Viewers made at a time: what bounds the memory, whatever their number."""
        return max(_BLOCK_RATINGS // self.mean_events, 1)

    @property
    def n_blocks(self) -> int:
        """How many blocks all viewers make; the last may be smaller."""
        return -(-self.n_users // self.users_per_block)

    def catalogue_rng(self) -> np.random.Generator:
        """The random numbers of the films."""
        return self._rng(_CATALOGUE_STREAM)

    def block_rng(self, block: int) -> np.random.Generator:
        """The random numbers of a block of viewers: of its own, so that order does not matter."""
        return self._rng(_VIEWERS_STREAM, block)

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=stream))
