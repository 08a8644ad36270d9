"""What clients send, checked; the examples are those of the interface's description."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr

from recsys.serving.config import MAX_BEAM_WIDTH, MAX_HISTORY, MAX_K, MAX_NAME, MAX_STEPS


def _whole(value: object) -> object:
    """JSON knows one kind of number: 10.0 is a whole one. True is none, and "10" is text."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")  # noqa: TRY004 – pydantic's way
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(_whole)
ItemName = Annotated[
    Annotated[StrictInt, _WHOLE] | Annotated[StrictStr, Field(min_length=1, max_length=MAX_NAME)],
    Field(description="An item's id or its title."),
]
Several = Annotated[list[ItemName], Field(max_length=MAX_HISTORY)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Count = Annotated[StrictInt, Field(ge=1, le=MAX_K), _WHOLE]

_HISTORY = ["Apollo 13 (1995)", "Heat (1995)"]


def _with_examples(**example: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [example]})


class OfGenres(BaseModel):
    """Items of any of some genres."""

    model_config = _with_examples(genres=["Comedy", "Crime"])

    genres: Annotated[
        list[Annotated[StrictStr, Field(min_length=1, max_length=MAX_NAME)]],
        Field(min_length=1, max_length=50),
    ]


ItemFilter = Several | OfGenres


class Selection(BaseModel):
    """How many items, and which may be among them."""

    k: Count = Field(10, description="How many, at most.")
    exclude: ItemFilter = Field([], description="Items not to give.")
    include: ItemFilter | None = Field(None, description="Choose from these alone.")


class Ranking(Selection):
    """How what comes next is ranked."""

    diversity: Share = Field(0.0, description="How much to avoid items like others given.")
    popularity_weight: Share = Field(
        1.0, description="How much of the pull of popular items stays."
    )
    embedding_weight: Share | None = Field(
        None, description="Weight of the embeddings beside the session model; null for the default."
    )


class NextRequest(Ranking):
    """A history to go on from."""

    model_config = _with_examples(history=_HISTORY, k=5)

    history: Several = Field([], description="What was watched, oldest first.")


class EventRequest(Ranking):
    """Something that has just been watched."""

    model_config = _with_examples(item="Heat (1995)", k=5)

    item: ItemName


class SimilarRequest(Selection):
    """An item to find others like."""

    model_config = _with_examples(item="Toy Story (1995)", k=5, include={"genres": ["Comedy"]})

    item: ItemName
    diversity: Share = Field(0.0, description="How much to avoid items like others given.")


class SequencesRequest(BaseModel):
    """A history to plan on from."""

    model_config = _with_examples(history=_HISTORY, length=3, beam_width=4)

    history: Several = Field([], description="What was watched, oldest first.")
    length: Annotated[StrictInt, Field(ge=1, le=MAX_STEPS), _WHOLE] = Field(
        5, description="How many items a sequence has."
    )
    beam_width: Annotated[StrictInt, Field(ge=1, le=MAX_BEAM_WIDTH), _WHOLE] = Field(
        8, description="How many sequences, at most."
    )
    exclude: ItemFilter = Field([], description="Items not to give.")
    include: ItemFilter | None = Field(None, description="Choose from these alone.")


class ExplainRequest(BaseModel):
    """A history, and what is to be explained by it."""

    model_config = _with_examples(history=_HISTORY, items=["Casino (1995)"], k=2)

    history: Annotated[list[ItemName], Field(min_length=1, max_length=MAX_HISTORY)] = Field(
        description="What was watched, oldest first."
    )
    items: Annotated[list[ItemName], Field(min_length=1, max_length=50)] | None = Field(
        None, description="The items to explain; null for the ten next ones."
    )
    k: Annotated[StrictInt, Field(ge=1, le=20), _WHOLE] = Field(
        3, description="Reasons for each, at most."
    )


class PlacesRequest(BaseModel):
    """Items to be found on the map."""

    model_config = _with_examples(items=["Heat (1995)"])

    items: Several
