"""Configuration of reading, filtering and splitting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from recsys.config import Config
from recsys.data import splitters
from recsys.data.filters import FilterReport, k_core, min_rating, time_window
from recsys.data.interactions import Interactions, TimestampLike
from recsys.data.options import ReadOptions
from recsys.data.splitters import Split
from recsys.data.validation import Checks


class Filters(Config):
    """Which interactions to use; by default all. The filters are applied in this order."""

    min_rating: float | None = None
    """Lowest rating."""
    start: TimestampLike | None = None
    """Earliest timestamp, inclusive."""
    end: TimestampLike | None = None
    """Latest timestamp, exclusive."""
    min_user_interactions: int = Field(default=1, ge=1)
    """Minimum number of interactions per user (k-core)."""
    min_item_interactions: int = Field(default=1, ge=1)
    """Minimum number of interactions per item (k-core)."""

    def fingerprint(self) -> dict[str, str | int | float]:
        """The filters that are not the default, for the fingerprint of a split."""
        changed = self.model_dump(mode="json", exclude_defaults=True)
        return {f"filter_{name}": value for name, value in changed.items()}

    def apply(self, interactions: Interactions) -> tuple[Interactions, list[FilterReport]]:
        """Return the remaining interactions and what each filter removed.

        Raises:
            ConfigError: `start` or `end` is not a point in time.
            DataError: Nothing is left, or the data lacks ratings or timestamps.
        """
        reports: list[FilterReport] = []
        if self.min_rating is not None:
            interactions, report = min_rating(interactions, self.min_rating)
            reports.append(report)
        if self.start is not None or self.end is not None:
            interactions, report = time_window(interactions, self.start, self.end)
            reports.append(report)
        minimums = self.min_user_interactions, self.min_item_interactions
        if max(minimums) > 1:
            interactions, report = k_core(interactions, *minimums)
            reports.append(report)
        return interactions, reports


class SplitConfig(Config):
    """Base of the configurations of the splitters; `method` is the name of the function."""

    method: str

    def apply(self, interactions: Interactions) -> Split:
        """Split interactions; see the function of `recsys` called `method`."""
        arguments = {name: getattr(self, name) for name in type(self).model_fields}
        split: Callable[..., Split] = getattr(splitters, arguments.pop("method"))
        return split(interactions, **arguments)


class LeaveLastOut(SplitConfig):
    """Hold out the last interaction of each user for test and the one before for validation."""

    method: Literal["leave_last_out"] = "leave_last_out"


class LeaveLastN(SplitConfig):
    """Hold out the last n interactions of each user for test, the n before for validation."""

    method: Literal["leave_last_n"] = "leave_last_n"
    n: int = Field(ge=1)
    """For `leave_last_n`: number of interactions held out per user and subset."""


class GlobalTimeCut(SplitConfig):
    """Train on everything before one point in time; later interactions are targets."""

    method: Literal["global_time_cut"] = "global_time_cut"
    validation_from: TimestampLike
    """For `global_time_cut`: start of the validation targets."""
    test_from: TimestampLike
    """For `global_time_cut`: start of the test targets."""


class PerUserRatio(SplitConfig):
    """Hold out the last share of each history for test, the share before for validation."""

    method: Literal["per_user_ratio"] = "per_user_ratio"
    validation: float = Field(default=0.1, ge=0, lt=1)
    """For `per_user_ratio`: share of each history for validation."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """For `per_user_ratio`: share of each history for test."""


class LastSession(SplitConfig):
    """Hold out the last session of each user for test and the one before for validation."""

    method: Literal["last_session"] = "last_session"


class LastDays(SplitConfig):
    """Hold out the sessions of the last days for test and of the days before for validation."""

    method: Literal["last_days"] = "last_days"
    days: int = Field(default=1, ge=1)
    """For `last_days`: number of days held out per subset."""


class DataConfig(ReadOptions):
    """Configuration of reading, filtering and splitting."""

    quarantine_path: Path | None = None
    """File for rows left out; by default `<name>.quarantine.parquet` next to the source."""
    checks: Checks = Checks()
    """Policies for invalid rows."""
    filters: Filters = Filters()
    """Which interactions to use."""
    # `--help` shows the default `method` of the last type.
    split: Annotated[
        LastDays | LastSession | PerUserRatio | GlobalTimeCut | LeaveLastN | LeaveLastOut,
        Field(discriminator="method"),
    ] = LeaveLastOut()
    """Which later interactions to hold out for validation and test."""

    def read_options(self) -> dict[str, Any]:
        """The keyword arguments of `read_ratings` that this configuration sets."""
        names = *ReadOptions.model_fields, "checks", "quarantine_path"
        return {name: getattr(self, name) for name in names}
