"""The ASGI application and its endpoints.

The event loop validates requests and looks items up; everything else is computed in threads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib.resources import files
from itertools import groupby
from typing import Annotated, Any

import numpy as np
import orjson
from anyio.to_thread import current_default_thread_limiter
from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from recsys import columns
from recsys.recommender import Item, Recommendations, Recommender
from recsys.recommender.filters import RecommendOptions
from recsys.recommender.results import ranking_records
from recsys.serving import schemas
from recsys.serving.config import ServingConfig, listed
from recsys.serving.errors import Problem, ProblemError, error_responses, register_error_handlers
from recsys.serving.middleware import LimitsMiddleware, ObservabilityMiddleware, requires_key
from recsys.serving.schemas import MAX_K, MAX_TEXT
from recsys.serving.state import (
    AppState,
    Check,
    LoadedModel,
    get_model,
    get_state,
    item_record,
)

_STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/map.js": ("map.js", "text/javascript; charset=utf-8"),
}
_THREADS = 8
"""Threads that answer requests; more would compete with the event loop for Python's lock."""
_ITEM = (columns.RANK, columns.ITEM_ID, columns.TITLE)
_GET_ERRORS = error_responses(401, 422, 429, 503)
_POST_ERRORS = error_responses(404, 409, 400, 408, 413, 401, 422, 429, 503)
_SESSION_ERRORS = error_responses(404, 401, 422, 429, 503)

_operation = APIRouter(tags=["operation"])
_v1 = APIRouter(prefix="/v1", tags=["recommendations"])

SessionID = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9_-]{22}$",
        description="The id that `POST /v1/sessions` returned.",
        examples=["Drmhze6EPcv0fN_81Bj-nA"],
    ),
]


def create_app(
    current: Callable[[], Recommender],
    config: ServingConfig | None = None,
    source: str = "a recommender",
) -> FastAPI:
    """Create the HTTP interface of a recommender as an ASGI application.

    Args:
        current: Returns the current recommender. When it returns a new one, the application keeps
            using the previous one until the new one is prepared.
        config: Limits and access.
        source: Where the recommender comes from, for `/readyz`.

    Example:
        For any ASGI server::

            recommender = recsys.load_recommender("models:/recsys@champion")
            app = create_app(lambda: recommender)
    """
    config = config or ServingConfig()
    state = AppState(current, config, source)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.open()
        current_default_thread_limiter().total_tokens = _THREADS
        try:
            yield
        finally:
            state.close()

    # FastAPI's documentation pages load scripts from a CDN; only /openapi.json is served.
    app = FastAPI(title="recsys", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.recsys = state
    app.include_router(_v1)
    app.include_router(_operation)
    for path, (name, media_type) in _STATIC.items():
        app.add_api_route(path, _static_file(name, media_type), include_in_schema=False)
    register_error_handlers(app)
    app.add_middleware(LimitsMiddleware, config=config, metrics=state.metrics)
    if origins := listed(config.origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Model-Version", "X-Request-ID"],
        )
    app.add_middleware(ObservabilityMiddleware, metrics=state.metrics)
    openapi = cache(partial(_openapi, app, has_key=config.api_key is not None))
    app.openapi = openapi  # type: ignore[method-assign]
    return app


@_v1.post("/next", response_model=schemas.NextResponse, responses=_POST_ERRORS)
async def next_items(request: Request, body: schemas.NextRequest) -> Response:
    """Recommend the next items of a history; for an empty history, popular items."""
    state, model = get_state(request), get_model(request)
    history, notes = await _resolve(request, model, body, body.history)
    options = await _options(model, body)
    records = await state.batcher.next_items(model.recommender, history, options)
    return _json({"items": orjson.Fragment(records), **notes})


@_v1.post("/similar", response_model=schemas.SimilarResponse, responses=_POST_ERRORS)
async def similar_items(request: Request, body: schemas.SimilarRequest) -> Response:
    """Find similar items."""
    model = get_model(request)
    await _require_known(request, [body.item], body.include, body.exclude)
    filters = _filters(model, body)

    def answer() -> Response:
        recommender = model.recommender
        result = recommender.similar_items(body.item, body.k, diversity=body.diversity, **filters)
        item = item_record(recommender.catalogue, recommender.index_of(body.item))
        return _json({"item": item, "items": result.as_records()})

    return await run_in_threadpool(answer)


@_v1.post("/sequences", response_model=schemas.SequencesResponse, responses=_POST_ERRORS)
async def sequences(request: Request, body: schemas.SequencesRequest) -> Response:
    """Find the most probable sequences of next items."""
    model = get_model(request)
    history, notes = await _resolve(request, model, body, body.history)
    filters = _filters(model, body)

    def answer(check: Check) -> Response:
        result = model.recommender.next_sequences(
            model.recommender.catalogue.ids[history].tolist(),
            body.length,
            k=body.k,
            beam_width=body.beam_width,
            unknown="ignore",
            on_step=check,
            **filters,
        )
        found = [
            {
                columns.PROBABILITY: rows[0][columns.PROBABILITY],
                "items": [_select(row, *_ITEM, columns.SCORE) for row in rows],
            }
            for rows in _grouped(result, "sequence")
        ]
        return _json({"sequences": found, **notes})

    return await get_state(request).slow.run(request, answer)


@_v1.post("/explain", response_model=schemas.ExplainResponse, responses=_POST_ERRORS)
async def explain(request: Request, body: schemas.ExplainRequest) -> Response:
    """Explain recommendations by the items of the history that contribute to them."""
    model = get_model(request)
    recommender = model.recommender
    history, notes = await _resolve(request, model, body, body.history)
    await _require_known(request, body.items or [])

    def answer(check: Check) -> Response:
        ids = recommender.catalogue.ids[history].tolist()
        result = recommender.explain(ids, body.items, body.k, on_step=check)
        explained = [
            {
                **_select(rows[0], columns.ITEM_ID, columns.TITLE, "sentence"),
                "contributions": [
                    {
                        columns.ITEM_ID: row["because_item_id"],
                        columns.TITLE: row["because_title"],
                        **_select(row, columns.RANK, columns.SCORE, "cooccurrence"),
                    }
                    for row in rows
                ],
            }
            for rows in _grouped(result, columns.ITEM_ID)
        ]
        return _json({"items": explained, **notes})

    return await get_state(request).slow.run(request, answer)


@_v1.get("/items", response_model=schemas.Items[schemas.FoundItem], responses=_GET_ERRORS)
async def search(
    request: Request,
    query: Annotated[
        str,
        Query(max_length=MAX_TEXT, description="A title, with typos.", examples=["the matirx"]),
    ] = "",
    k: Annotated[int, Query(ge=1, le=MAX_K, description="Maximum number of items.")] = 10,
) -> Response:
    """Search by title, tolerating typos; without a query, the most popular items."""
    recommender = get_model(request).recommender

    def answer(_: Check) -> Response:
        return _json({"items": recommender.search(query, k).as_records()})

    return await get_state(request).slow.run(request, answer)


@_v1.get("/genres", response_model=schemas.Genres, responses=_GET_ERRORS)
async def genres(request: Request) -> Response:
    """All genres, for filters."""
    return _json({"genres": sorted(get_model(request).genres.values())})


@_v1.get("/map", response_model=schemas.Items[schemas.MapPoint], responses=_GET_ERRORS)
async def item_map(
    request: Request,
    k: Annotated[int, Query(ge=1, le=5000, description="Number of items.")] = 1000,
) -> Response:
    """A two-dimensional map of the most popular items, by the similarity of their embeddings."""
    points = get_model(request).item_map
    return await run_in_threadpool(lambda: _json({"items": points.locate(points.popular[:k])}))


@_v1.post("/map", response_model=schemas.Items[schemas.MapPoint], responses=_POST_ERRORS)
async def map_points(request: Request, body: schemas.MapRequest) -> Response:
    """Locate items on the map. Items without an embedding are omitted."""
    model = get_model(request)
    await _require_known(request, body.items)
    indices = model.recommender.catalogue.indices("items", body.items)
    return await run_in_threadpool(lambda: _json({"items": model.item_map.locate(indices)}))


@_v1.post(
    "/sessions", status_code=201, response_model=schemas.SessionState, responses=_SESSION_ERRORS
)
def create_session(request: Request) -> Response:
    """Create an empty session. Its id gives access to it."""
    session_id = get_state(request).sessions.create()
    response = _json({"session_id": session_id, "n_events": 0, "history": []})
    response.status_code, response.headers["Location"] = 201, f"/v1/sessions/{session_id}"
    return response


@_v1.post(
    "/sessions/{session_id}/events", response_model=schemas.SessionResponse, responses=_POST_ERRORS
)
async def add_event(
    request: Request, session_id: SessionID, body: schemas.EventRequest
) -> Response:
    """Add an event to a session and recommend the next items."""
    state, model = get_state(request), get_model(request)
    indices, notes = await _resolve(request, model, body, [body.item])
    options = await _options(model, body)
    item = next(iter(model.recommender.catalogue.ids[indices].tolist()), None)

    def answer() -> Response:
        found = state.sessions.add(model.recommender, session_id, item)
        if found is None:
            raise _unknown_session()
        session, n_events = found
        records = ranking_records(model.recommender.catalogue, session.rank(options))
        content = {"session_id": session_id, "n_events": n_events}
        return _json({**content, "items": records, **notes})

    return await run_in_threadpool(answer)


@_v1.get("/sessions/{session_id}", response_model=schemas.SessionState, responses=_SESSION_ERRORS)
def get_session(request: Request, session_id: SessionID) -> Response:
    """The content of a session."""
    record = get_state(request).sessions.get(session_id)
    if record is None:
        raise _unknown_session()
    return _json({"session_id": session_id, "n_events": record.n_events, "history": record.history})


@_v1.delete("/sessions/{session_id}", status_code=204, responses=_SESSION_ERRORS)
def delete_session(request: Request, session_id: SessionID) -> Response:
    """Delete a session."""
    if not get_state(request).sessions.delete(session_id):
        raise _unknown_session()
    return Response(status_code=204)


@_operation.get("/healthz", response_model=schemas.Health, responses=error_responses(422))
async def healthz() -> Response:
    """Whether the process runs."""
    return _json({"status": "ok"})


@_operation.get("/readyz", response_model=schemas.Ready)
async def readyz(request: Request) -> Response:
    """Whether requests are answered, and by which model."""
    model = get_model(request)
    trained_at = model.recommender.bundle.trained_at
    return _json(
        {
            "status": "ready",
            "source": get_state(request).source,
            "version": model.recommender.version,
            "trained_at": trained_at and trained_at.isoformat(timespec="seconds"),
            "n_items": len(model.recommender.catalogue),
            "loaded_at": model.loaded_at.isoformat(timespec="seconds"),
        }
    )


@_operation.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **error_responses(401, 429, 503)},
)
def metrics(request: Request) -> Response:
    """Metrics for Prometheus."""
    state = get_state(request)
    state.metrics.sessions.set(len(state.sessions))
    return Response(state.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content, default=str), media_type="application/json")


async def _resolve(
    request: Request, model: LoadedModel, body: schemas.UnknownItems, history: list[Item]
) -> tuple[NDArray[np.int32], dict[str, Any]]:
    """The indices of the known items of a history, and what the response says of the others.

    Raises:
        UnknownItemError: There are some, and the request does not ignore them.
    """
    if body.unknown == "raise":
        filters = (getattr(body, name, None) for name in ("include", "exclude"))
        await _require_known(request, history, *filters)
    if all(map(model.recommender.catalogue.is_exact, history)):
        return model.resolve(history)
    return await run_in_threadpool(model.resolve, history)


async def _require_known(request: Request, *lists: schemas.FilterField | None) -> None:
    """Raise the error of the first unknown item, in a thread: it finds the closest titles."""
    model = get_model(request)
    given = [item for items in lists if isinstance(items, list) for item in items]
    if all(map(model.recommender.catalogue.is_exact, given)):
        unknown = model.unknown_items(given)
    else:
        unknown = await run_in_threadpool(model.unknown_items, given)
    if unknown:
        await get_state(request).slow.run(request, lambda _: model.recommender.index_of(unknown[0]))


def _filters(model: LoadedModel, body: schemas.FilteredRequest) -> dict[str, Any]:
    include = None if body.include is None else model.item_filter(body.include)
    return {"include": include, "exclude": model.item_filter(body.exclude)}


async def _options(model: LoadedModel, body: schemas.RankedRequest) -> RecommendOptions:
    names = ("k", "diversity", "popularity_weight", "embedding_weight", "exclude_seen")
    options = {name: getattr(body, name) for name in names} | _filters(model, body)
    resolve = partial(RecommendOptions.resolve, model.recommender.catalogue, unknown="ignore")
    if body.include is None and not body.exclude:
        return resolve(**options)
    return await run_in_threadpool(resolve, **options)


def _select(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _grouped(result: Recommendations, name: str) -> Iterable[list[dict[str, Any]]]:
    for _, rows in groupby(result.as_records(), key=lambda row: row[name]):
        yield list(rows)


def _unknown_session() -> ProblemError:
    return ProblemError(404, "unknown-session", "the session does not exist or has expired")


def _static_file(name: str, media_type: str) -> Callable[[], Any]:
    content = files("recsys.serving").joinpath("static", name).read_bytes()

    async def static_file() -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return static_file


def _openapi(app: FastAPI, has_key: bool) -> dict[str, Any]:
    """The OpenAPI description, with the schema of errors and the API key."""
    description = get_openapi(
        title=app.title,
        version="1",
        description="Next items, similar items and explanations. Items are given by id or title.",
        routes=app.routes,
    )
    components = description["components"]
    components["schemas"] |= {"Problem": Problem.model_json_schema()}
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    if has_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in description["paths"].items():
            if requires_key(path):
                for operation in operations.values():
                    operation["security"] = [{"key": []}]
    return description
