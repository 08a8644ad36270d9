"""The endpoints under /v1.

Those that answer in a millisecond do so on the spot, in the event loop; what takes longer is done
in a thread, so that the others need not wait for it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from recsys.serving import responses
from recsys.serving.answers import answer, chosen, explanations, ranked, sequences
from recsys.serving.config import MAX_K, MAX_NAME, MAX_PLACES
from recsys.serving.deployment import deployment_of
from recsys.serving.problems import ProblemError, documented
from recsys.serving.requests import (
    EventRequest,
    ExplainRequest,
    NextRequest,
    PlacesRequest,
    SequencesRequest,
    SimilarRequest,
)

router = APIRouter(prefix="/v1", tags=["recommendations"])

_LIMITS = (401, 422, 429, 503)
_BODY = (400, 408, 413)
_ASKED = documented(404, 409, *_BODY, *_LIMITS)
_FOUND = documented(*_LIMITS)

SessionID = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Any text of letters, digits, `_` and `-`: choose one that cannot be guessed.",
        examples=["5f0c2e6a-6a0c-4e4d-9f6b-0d8f3c1d2b7a"],
    ),
]
_HowMany = Annotated[int, Query(ge=1, le=MAX_K, description="How many, at most.")]


@router.post("/next", response_model=responses.NextAnswer, responses=_ASKED)
async def next_items(request: Request, asked: NextRequest) -> Response:
    """What is likely to be watched next; after an empty history, what is popular."""
    deployment = deployment_of(request)
    model = deployment.model
    wishes = ranked(model, asked)
    if asked.exclude or asked.include is not None:
        records = model.recommender.next_items(asked.history, **wishes).as_records()
    else:
        del wishes["exclude"], wishes["include"]
        records = await deployment.together.next_items(model.recommender, asked.history, **wishes)
    return answer({"items": records})


@router.post("/similar", response_model=responses.SimilarAnswer, responses=_ASKED)
async def similar_items(request: Request, asked: SimilarRequest) -> Response:
    """Items that the same people like."""
    model = deployment_of(request).model
    rows = model.recommender.similar_items(
        asked.item, asked.k, diversity=asked.diversity, **chosen(model, asked)
    )
    return answer({"items": rows.as_records()})


@router.post("/sequences", response_model=responses.SequencesAnswer, responses=_ASKED)
async def next_sequences(request: Request, asked: SequencesRequest) -> Response:
    """Whole sequences of what could be watched next."""
    model = deployment_of(request).model
    rows = await run_in_threadpool(
        model.recommender.next_sequences,
        asked.history,
        asked.length,
        beam_width=asked.beam_width,
        **chosen(model, asked),
    )
    return answer({"sequences": sequences(rows)})


@router.post("/explain", response_model=responses.ExplainAnswer, responses=_ASKED)
async def explain(request: Request, asked: ExplainRequest) -> Response:
    """Which of the watched items speak for what is recommended."""
    model = deployment_of(request).model
    rows = await run_in_threadpool(model.recommender.explain, asked.history, asked.items, asked.k)
    return answer({"items": explanations(rows)})


@router.get("/items", response_model=responses.FoundAnswer, responses=_FOUND)
async def items(
    request: Request,
    query: Annotated[
        str, Query(max_length=MAX_NAME, description="What someone typed.", examples=["the matirx"])
    ] = "",
    k: _HowMany = 10,
) -> Response:
    """Search titles, typing errors forgiven; without a query, the most popular items."""
    model = deployment_of(request).model
    rows = await run_in_threadpool(model.recommender.search, query, k)
    return answer({"items": rows.as_records()})


@router.get("/map", response_model=responses.Places, responses=_FOUND)
async def item_map(
    request: Request,
    k: Annotated[int, Query(ge=1, le=MAX_PLACES, description="How many, at most.")] = 1000,
) -> Response:
    """The most watched items in the plane: near means liked by the same people."""
    model = deployment_of(request).model
    return answer({"items": model.item_map.most_popular(k)})


@router.post("/map", response_model=responses.Places, responses=_ASKED)
async def places(request: Request, asked: PlacesRequest) -> Response:
    """Where some items lie on the map; those without an embedding lie nowhere."""
    model = deployment_of(request).model
    indices = [model.recommender.index_of(item) for item in asked.items]
    return answer({"items": model.item_map.places(indices)})


@router.post(
    "/sessions/{session_id}/events", response_model=responses.SessionAnswer, responses=_ASKED
)
async def watch(request: Request, session_id: SessionID, asked: EventRequest) -> Response:
    """Add an event to a session, which begins with its first, and get what comes next."""
    deployment = deployment_of(request)
    model = deployment.model
    wishes = ranked(model, asked)
    session, n_watched = deployment.sessions.watch(model.recommender, session_id, asked.item)
    rows = session.next_items(**wishes)
    return answer({"session_id": session_id, "n_watched": n_watched, "items": rows.as_records()})


@router.get(
    "/sessions/{session_id}",
    response_model=responses.SessionState,
    responses=documented(404, *_LIMITS),
)
async def session_state(request: Request, session_id: SessionID) -> Response:
    """What a session holds."""
    known = deployment_of(request).sessions.get(session_id)
    if known is None:
        raise _no_session()
    return answer(
        {"session_id": session_id, "n_watched": known.n_watched, "history": known.history}
    )


@router.delete("/sessions/{session_id}", status_code=204, responses=documented(404, *_LIMITS))
async def forget(request: Request, session_id: SessionID) -> Response:
    """Forget a session at once."""
    if not deployment_of(request).sessions.forget(session_id):
        raise _no_session()
    return Response(status_code=204)


def _no_session() -> ProblemError:
    return ProblemError(404, "unknown-session", "there is no such session, or no longer")
