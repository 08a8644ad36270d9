"""Options of reading: which files, and how their values are written."""

from __future__ import annotations

import re
from encodings.aliases import aliases
from typing import Annotated, Final, Literal, Self, get_args

import pandas as pd
from pydantic import AfterValidator, Field, field_validator, model_validator

from recsys.config import Config, did_you_mean

TimeUnit = Literal["ns", "us", "ms", "s", "min", "h", "D", "excel"]
"""Unit of numeric timestamps since 1970; `D` is days, `excel` is Excel's day numbers."""

Repeats = Literal["auto", "allow", "exclude"]
"""Whether a user may have an item more than once; `auto` decides by the data."""

WEIGHT_DECIMALS: Final = 4
"""Decimals that the weight of an event may have, so that weighted counts are exact."""


def _check_weight(weight: float) -> float:
    if round(weight, WEIGHT_DECIMALS) != weight:
        raise ValueError(f"{weight:g} has more than {WEIGHT_DECIMALS} decimals: round it")
    return weight


EventWeight = Annotated[float, Field(ge=0, le=1000), AfterValidator(_check_weight)]

MissingRating = Annotated[float | str, Field(union_mode="left_to_right")]
"""A number, or text that is none; the text of a number is taken for the number."""

Histories = Literal["auto", "user", "session"]
"""What one history is: all interactions of a user, or those of a session; `auto` takes sessions
where the log has them."""

TIME_UNITS: Final[tuple[TimeUnit, ...]] = get_args(TimeUnit)


def normalize_kind(kind: str) -> str:
    """A kind of event without case, separators between letters and decimals of a whole number.

    >>> normalize_kind("add_to_cart") == normalize_kind("AddToCart"), normalize_kind("-1.0")
    (True, '-1')
    """
    whole = re.sub(r"^([-+]?\d+)\.0+$", r"\1", kind.strip())
    return re.sub(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])", "", whole).casefold()


class ReadOptions(Config):
    """Which files of a source to read and how; what is left out is detected."""

    layout: str | None = None
    """A key of `recsys.data.layouts.LAYOUTS`, if file names do not determine it."""
    files: str | tuple[str, ...] | None = None
    """Name or pattern of the files with ratings in a folder or archive, such as `20*/ratings.csv`,
    or several of them; one that begins with `!` leaves out what it matches:
    `["*.csv", "!prices.csv"]`. `*.csv` matches no item table."""
    columns: dict[str, str] | tuple[str, ...] = Field(default_factory=dict)
    """Names in the source of user_id, item_id, rating and timestamp, where they differ:
    `{user_id = "visitor"}`; `{rating = ""}` ignores the ratings. For files without a header, the
    names of all columns in order: `["user_id", "item_id", "category", "timestamp"]`."""
    separator: str | None = None
    """Separator of the columns in text files."""
    encoding: str | None = None
    """Encoding of text files, such as `latin-1`."""
    time_unit: TimeUnit | None = None
    """Unit of numeric timestamps: `s`, `ms`, `us` or `ns`, `min`, `h` or `D` since 1970, or `excel`
    for Excel's day numbers."""
    time_format: str | None = None
    """Format of timestamps that are text, as of `strptime`: `%d.%m.%Y %H:%M`."""
    repeats: Repeats = "auto"
    """Whether items come again for the same user, as songs do and films rarely. `allow` keeps all
    rows: models may recommend what is in a history, and are evaluated so. `exclude` keeps the
    latest row of each user and item. `auto` allows repeats in data without ratings in which a
    tenth of the rows or more repeat an earlier one."""
    missing_ratings: tuple[MissingRating, ...] = ()
    """Numbers or text that stand for a missing rating, such as `[-1]` or `["unrated"]`."""
    events: dict[str, EventWeight] = Field(default_factory=dict)
    """How much each kind of event counts for the co-occurrences, such as
    `{view = 0.1, cart = 0.5, purchase = 1}`; 0 does not count. Usual words are known."""
    sequence_events: tuple[str, ...] = ()
    """The kinds of events that form the histories; by default views if there are any, else all
    that count."""

    session_gap: str | None = None
    """Time without interactions after which a session of a user ends, such as `30min`, where no
    column `session_id` says it."""
    histories: Histories = "auto"
    """What a history is. `session`: the interactions of one session. `user`: all of a user, so that
    those of earlier sessions come before those of the present one. `auto`: sessions where the log
    has a column `session_id` or `session_gap` is set."""

    @model_validator(mode="after")
    def _check_events(self) -> Self:
        for kinds in (self.events, self.sequence_events):
            if len({*map(normalize_kind, kinds)}) < len(kinds):
                raise ValueError(f"{', '.join(kinds)}: two are equal but for case and separators")
        return self

    @model_validator(mode="after")
    def _check_time(self) -> Self:
        if self.time_unit is not None and self.time_format is not None:
            raise ValueError("time_unit is for numbers and time_format for text: set one of them")
        return self

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, encoding: str | None) -> str | None:
        try:
            b"a".decode(encoding or "utf-8", "ignore")
        except (LookupError, ValueError) as error:  # also for `hex` and others that are not of text
            known = sorted(name for name in {*aliases.values()} if not name.endswith("_codec"))
            similar = did_you_mean(str(encoding), known)
            raise ValueError(
                f"no such encoding{similar or '; name one such as utf-8, cp1252 or utf-16'}"
            ) from error
        return encoding

    @field_validator("session_gap")
    @classmethod
    def _check_gap(cls, gap: str | None) -> str | None:
        has_unit = gap is not None and re.search("[A-Za-z:]", gap)
        if gap is not None and not (has_unit and pd.to_timedelta(gap, errors="coerce").value > 0):
            raise ValueError(f"{gap!r} is not a positive time with a unit, such as 30min or 1h")
        return gap
