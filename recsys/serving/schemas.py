"""Requests and responses of the HTTP API.

Requests are validated. Responses are serialised directly from the recommender's records; their
models document them in OpenAPI, and the tests validate responses against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

MAX_HISTORY = 500
"""Maximum number of items in a request, and of events stored for a session."""
MAX_K = 200
MAX_TEXT = 300
"""Maximum number of characters of a title, an id or a query."""


def _integer(value: object) -> object:
    """Accept integral floats, as JSON has one number type, but neither booleans nor text."""
    if isinstance(value, bool):
        raise ValueError("booleans are not numbers")  # noqa: TRY004 – pydantic's convention
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Integer = Annotated[StrictInt, BeforeValidator(_integer)]
_Text = Annotated[StrictStr, Field(min_length=1, max_length=MAX_TEXT)]
ItemName = Annotated[_Integer | _Text, Field(description="An item's id or its title.")]
ItemNames = Annotated[list[ItemName], Field(max_length=MAX_HISTORY)]
UnitInterval = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]

_HISTORY = ["Apollo 13 (1995)", "Heat (1995)"]
_OLDEST_FIRST = "Items of the user, oldest first."


def _request(**example: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [example]})


class GenreFilter(BaseModel):
    """Items of any of these genres."""

    model_config = _request(genres=["Comedy", "Crime"])

    genres: Annotated[list[_Text], Field(min_length=1, max_length=50)]


FilterField = ItemNames | GenreFilter


class FilteredRequest(BaseModel):
    """Filters of the items."""

    include: FilterField | None = Field(None, description="Recommend only these items.")
    exclude: FilterField = Field([], description="Do not recommend these items.")


class ListRequest(FilteredRequest):
    """Options of a list of items."""

    k: _Integer = Field(10, ge=1, le=MAX_K, description="Maximum number of items.")
    diversity: UnitInterval = Field(
        0.0, description="Penalty on items similar to others of the result."
    )


class UnknownItems(BaseModel):
    """What to do with items of a history that the model does not know."""

    unknown: Literal["ignore", "raise"] = Field(
        "ignore",
        description="`ignore` leaves out unknown items of the history, which the response lists, "
        "and of the filters; `raise` is status 404.",
    )


class RankedRequest(ListRequest, UnknownItems):
    """Options of the ranking of next items."""

    popularity_weight: UnitInterval = Field(
        1.0, description="Share of the effect of popularity that remains in the score."
    )
    embedding_weight: UnitInterval | None = Field(
        None,
        description="Weight of the embeddings relative to the session model; null for the default.",
    )
    exclude_seen: StrictBool | None = Field(
        None,
        description="Whether to leave out items of the history; null for the default of the model, "
        "which leaves them out unless items repeat in its data.",
    )


class NextRequest(RankedRequest):
    """A history to recommend the next items for."""

    model_config = _request(history=_HISTORY, k=5)

    history: ItemNames = Field([], description=_OLDEST_FIRST)


class EventRequest(RankedRequest):
    """An event to add to a session."""

    model_config = _request(item="Heat (1995)", k=5)

    item: ItemName


class SimilarRequest(ListRequest):
    """An item to find similar items for."""

    model_config = _request(item="Toy Story (1995)", k=5, include={"genres": ["Comedy"]})

    item: ItemName


class SequencesRequest(FilteredRequest, UnknownItems):
    """A history to continue by sequences."""

    model_config = _request(history=_HISTORY, length=3, beam_width=4)

    history: ItemNames = Field([], description=_OLDEST_FIRST)
    length: _Integer = Field(5, ge=1, le=20, description="Number of items of each sequence.")
    k: Annotated[StrictInt, Field(ge=1, le=32), BeforeValidator(_integer)] | None = Field(
        None, description="Maximum number of sequences; null for `beam_width`."
    )
    beam_width: _Integer = Field(
        8, ge=1, le=32, description="Sequences kept at each step, at least `k`."
    )


class ExplainRequest(UnknownItems):
    """Recommended items to explain by a history."""

    model_config = _request(history=_HISTORY, items=["Casino (1995)"], k=2)

    history: ItemNames = Field(min_length=1, description=_OLDEST_FIRST)
    items: Annotated[list[ItemName], Field(min_length=1, max_length=50)] | None = Field(
        None, description="Items to explain; null for the ten next items."
    )
    k: _Integer = Field(
        3, ge=1, le=20, description="Maximum number of contributions for each item."
    )


class MapRequest(BaseModel):
    """Items to locate on the map."""

    model_config = _request(items=["Heat (1995)"])

    items: ItemNames


ItemT = TypeVar("ItemT")


class ItemResponse(BaseModel):
    """An item."""

    item_id: int | str
    title: str


class Items(BaseModel, Generic[ItemT]):
    """A list of items, best first."""

    items: list[ItemT]


class RankedItem(ItemResponse):
    """An item of a ranking."""

    rank: int


class SimilarItem(RankedItem):
    """A similar item."""

    score: float = Field(description="Cosine of the embeddings.")


class NextItem(RankedItem):
    """A recommended item."""

    score: float = Field(description="Score that determines the order.")
    probability: float = Field(description="Probability of the session model.")


class SimilarResponse(Items[SimilarItem]):
    """The items similar to an item."""

    item: ItemResponse


class FoundItem(RankedItem):
    """An item that matches a query, with all columns of the catalogue."""

    model_config = ConfigDict(extra="allow")

    score: float = Field(description="1 for an exact match, lower for less similar titles.")


class MatchedItem(ItemResponse):
    """An item that was given by its title, written differently."""

    query: str


class AmbiguousTitle(BaseModel):
    """A title of several items."""

    query: str
    items: list[ItemResponse] = Field(description="The ten most popular items with this title.")


class HistoryNotes(BaseModel):
    """How the history of the request was understood."""

    ignored: list[int | str] = Field(
        description="Items that the model does not know, or titles of several; they are left out. "
        "Integers of more than 64 bits are returned as text."
    )
    ambiguous: list[AmbiguousTitle] = Field(
        description="Those of `ignored` that are titles of several items: use one of their ids."
    )
    matched: list[MatchedItem] = Field(
        description="The items of titles that are written differently in the catalogue."
    )


class NextResponse(Items[NextItem], HistoryNotes):
    """The next items."""


class SessionResponse(NextResponse):
    """The next items of a session."""

    session_id: str
    n_events: int = Field(description="Number of events of the session.")


class SessionState(BaseModel):
    """The content of a session."""

    session_id: str
    n_events: int
    history: list[int | str] = Field(description="Ids of the latest events, oldest first.")


class SequenceItem(RankedItem):
    """An item of a sequence."""

    score: float = Field(description="Probability of the item given those before it.")


class SequenceResponse(BaseModel):
    """A sequence of items."""

    probability: float = Field(description="Probability of the whole sequence.")
    items: list[SequenceItem]


class SequencesResponse(HistoryNotes):
    """Sequences of next items, most probable first."""

    sequences: list[SequenceResponse]


class ContributionResponse(RankedItem):
    """An item of the history that contributes to a recommendation."""

    score: float = Field(description="Decrease of the log-probability without it, in nats.")
    cooccurrence: int | None = Field(
        description="Number of users with a positive interaction with both; null if unknown."
    )


class ExplainedItem(ItemResponse):
    """An item and the contributions to it."""

    sentence: str
    contributions: list[ContributionResponse]


class ExplainResponse(Items[ExplainedItem], HistoryNotes):
    """The contributions to each item."""


class Genres(BaseModel):
    """Genres as the catalogue has them."""

    genres: list[str]


class MapPoint(ItemResponse):
    """An item on the map."""

    x: float = Field(description="From -1 to 1.")
    y: float = Field(description="From -1 to 1.")
    genre: str = Field(description="The first genre; empty if unknown.")


class Health(BaseModel):
    """The status of the server."""

    status: str


class Ready(Health):
    """The status of the server and the model it uses."""

    source: str
    version: str = Field(description="Also the header `X-Model-Version` of each response.")
    trained_at: str | None = Field(description="Null if the bundle does not record it.")
    n_items: int
    loaded_at: str
