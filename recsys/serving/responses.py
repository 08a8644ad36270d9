"""What clients get: the models that OpenAPI shows.

Answers are written straight from the recommender's records and not validated again; the tests
check them against these.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

ItemID = int | str


class Named(BaseModel):
    """An item."""

    item_id: ItemID
    title: str


class Similar(Named):
    """An item and how like another it is."""

    rank: int
    score: float = Field(description="Cosine of the embeddings.")


class Next(Named):
    """An item and how likely it comes next."""

    rank: int
    score: float = Field(description="What the items are ranked by.")
    probability: float = Field(description="That it is watched next, by the session model.")


class Found(Named):
    """An item of the catalogue, with whatever else the catalogue holds of it."""

    model_config = ConfigDict(extra="allow")

    rank: int
    score: float = Field(description="1 for the title itself; less the less it is like the query.")


class SimilarAnswer(BaseModel):
    """Items like the one asked for, nearest first."""

    items: list[Similar]


class NextAnswer(BaseModel):
    """What comes next, most likely first."""

    items: list[Next]


class FoundAnswer(BaseModel):
    """Items whose titles are like the query, best first."""

    items: list[Found]


class SessionAnswer(NextAnswer):
    """What comes next in a session."""

    session_id: str
    n_watched: int = Field(description="Events of the session so far.")


class SessionState(BaseModel):
    """What a session holds."""

    session_id: str
    n_watched: int
    history: list[ItemID] = Field(description="The latest events, oldest first.")


class Step(Named):
    """An item of a watch list."""

    rank: int
    score: float = Field(description="Its probability after those before it.")


class ItemSequence(BaseModel):
    """A sequence of items."""

    probability: float = Field(description="Of the whole sequence.")
    items: list[Step]


class SequencesAnswer(BaseModel):
    """Sequences of what could be watched next, most probable first."""

    sequences: list[ItemSequence]


class Reason(Named):
    """A watched item that speaks for another."""

    rank: int
    score: float = Field(description="By how much the log-probability falls without it, in nats.")
    cooccurrence: int | None = Field(description="How many people liked both, where known.")


class Explained(Named):
    """An item and what speaks for it."""

    sentence: str
    reasons: list[Reason]


class ExplainAnswer(BaseModel):
    """Why items are recommended."""

    items: list[Explained]


class Place(Named):
    """An item on the map."""

    x: float = Field(description="From -1 to 1.")
    y: float = Field(description="From -1 to 1.")
    genre: str = Field(description="The first of its genres; empty where unknown.")


class Places(BaseModel):
    """Items on the map, most watched first."""

    items: list[Place]


class Health(BaseModel):
    """That the server runs, or is ready."""

    status: str


class Ready(Health):
    """What the server answers from."""

    source: str
    n_items: int
    loaded_at: str
