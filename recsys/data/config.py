"""How ratings are read, filtered and split, as settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from recsys.config import Config
from recsys.data.filters import FilterReport, k_core, min_rating, time_window
from recsys.data.interactions import Interactions
from recsys.data.reading.checks import Checks
from recsys.data.split import Split
from recsys.data.splitters import (
    global_time_cut,
    leave_last_n,
    leave_last_out,
    per_user_ratio,
)
from recsys.data.timestamps import TimestampLike


class Filters(Config):
    """Which ratings are used, in this order; by default all are."""

    min_rating: float | None = None
    """Only ratings of this much or more."""

    start: TimestampLike | None = None
    """Only watches from then on."""

    end: TimestampLike | None = None
    """Only watches before then."""

    min_user_interactions: int = Field(default=1, ge=1)
    """Only users of at least so many watches (k-core)."""

    min_item_interactions: int = Field(default=1, ge=1)
    """Only items of at least so many watches (k-core)."""

    def facts(self) -> dict[str, str | int | float]:
        """The filters that are not the default, for a fingerprint."""
        set_ones = self.model_dump(mode="json", exclude_defaults=True)
        return {f"filter_{name}": value for name, value in set_ones.items()}

    def apply(self, interactions: Interactions) -> tuple[Interactions, list[FilterReport]]:
        """What is left of some interactions, and what each filter removed.

        Raises:
            ConfigError: a moment cannot be read.
            DataError: nothing is left, or the data lacks what a filter looks at.
        """
        filters: list[Callable[[Interactions], tuple[Interactions, FilterReport]]] = []
        if self.min_rating is not None:
            least = self.min_rating
            filters.append(lambda log: min_rating(log, least))
        if self.start is not None or self.end is not None:
            filters.append(lambda log: time_window(log, self.start, self.end))
        if self.min_user_interactions > 1 or self.min_item_interactions > 1:
            filters.append(
                lambda log: k_core(log, self.min_user_interactions, self.min_item_interactions)
            )
        reports = []
        for one in filters:
            interactions, report = one(interactions)
            reports.append(report)
        return interactions, reports


class LeaveLastOut(Config):
    """Each user's last watch is the test target, the one before it the validation target."""

    method: Literal["leave_last_out"] = "leave_last_out"

    def apply(self, interactions: Interactions) -> Split:
        """Split; see `recsys.leave_last_out`."""
        return leave_last_out(interactions)


class LeaveLastN(Config):
    """Each user's last n watches are test targets, the n before them validation targets."""

    method: Literal["leave_last_n"] = "leave_last_n"
    n: int = Field(ge=1)

    def apply(self, interactions: Interactions) -> Split:
        """Split; see `recsys.leave_last_n`."""
        return leave_last_n(interactions, self.n)


class GlobalTimeCut(Config):
    """Train is what anyone watched before one moment; later watches are targets."""

    method: Literal["global_time_cut"] = "global_time_cut"
    validation_from: TimestampLike
    test_from: TimestampLike

    def apply(self, interactions: Interactions) -> Split:
        """Split; see `recsys.global_time_cut`."""
        return global_time_cut(
            interactions, validation_from=self.validation_from, test_from=self.test_from
        )


class PerUserRatio(Config):
    """The last part of each user's watches are test targets, the part before it validation."""

    method: Literal["per_user_ratio"] = "per_user_ratio"
    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)

    def apply(self, interactions: Interactions) -> Split:
        """Split; see `recsys.per_user_ratio`."""
        return per_user_ratio(interactions, self.validation, self.test)


class DataConfig(Config):
    """How ratings are read, filtered and split."""

    layout: str | None = None
    """One of `recsys.data.reading.layouts.LAYOUTS`, where names do not tell it."""

    columns: dict[str, str] = Field(default_factory=dict)
    """What the source calls user_id, item_id, rating and timestamp, where it is not that."""

    rejected: Path | None = None
    """The file for rows left out; by default `<name>.rejected.parquet` beside the source."""

    checks: Checks = Checks()
    """What to do about rows that cannot be right."""

    filters: Filters = Filters()
    """Which ratings are used."""

    split: Annotated[
        LeaveLastOut | LeaveLastN | GlobalTimeCut | PerUserRatio, Field(discriminator="method")
    ] = LeaveLastOut()
    """What is held back for validation and test, always the later watches."""
