"""The application: endpoints, limits, the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST

from recsys.recommender import Recommender
from recsys.serving import responses
from recsys.serving.answers import answer
from recsys.serving.config import ServingConfig
from recsys.serving.deployment import Deployment, deployment_of
from recsys.serving.limits import Limits, is_guarded
from recsys.serving.observing import Observed
from recsys.serving.problems import Problem, documented, tell_problems
from recsys.serving.routes import router

_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/map.js": ("map.js", "text/javascript; charset=utf-8"),
}

_about = APIRouter(tags=["operation"])


def create_app(
    current: Callable[[], Recommender],
    config: ServingConfig | None = None,
    source: str = "a recommender",
) -> FastAPI:
    """The HTTP interface of a recommender, as an ASGI application.

    Args:
        current: gives the recommender to answer with. When it gives another one, requests are
            answered by the one before until its map and index are made.
        config: limits and access.
        source: what `/readyz` says that the recommender came from.

    Example:
        Under any ASGI server, from a module of one's own::

            rec = recsys.load_recommender("models:/recsys@champion")
            app = create_app(lambda: rec)
    """
    config = config or ServingConfig()
    deployment = Deployment(current, config, source)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        deployment.open()
        try:
            yield
        finally:
            deployment.close()

    # The usual pages of documentation load scripts from elsewhere; /openapi.json needs nobody.
    app = FastAPI(title="recsys", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.deployment = deployment
    app.include_router(router)
    app.include_router(_about)
    for path, (name, media_type) in _PAGE.items():
        app.add_api_route(path, _file(name, media_type), include_in_schema=False)
    tell_problems(app)
    app.add_middleware(Limits, config=config, metrics=deployment.metrics)
    app.add_middleware(Observed, metrics=deployment.metrics)
    described = cache(partial(_description, app, guarded=config.api_key is not None))
    app.openapi = described  # type: ignore[method-assign]
    return app


@_about.get("/healthz", response_model=responses.Health, responses=documented(422))
async def healthz() -> Response:
    """That the process runs."""
    return answer({"status": "ok"})


@_about.get("/readyz", response_model=responses.Ready)
async def readyz(request: Request) -> Response:
    """That questions are answered, and from what."""
    deployment = deployment_of(request)
    model = deployment.model
    return answer(
        {
            "status": "ready",
            "source": deployment.source,
            "n_items": len(model.recommender.catalogue),
            "loaded_at": model.loaded_at.isoformat(timespec="seconds"),
        }
    )


@_about.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **documented(401, 429, 503)},
)
async def metrics(request: Request) -> Response:
    """Counts and times for Prometheus."""
    deployment = deployment_of(request)
    deployment.metrics.sessions.set(len(deployment.sessions))
    return Response(deployment.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _file(name: str, media_type: str) -> Callable[[], Any]:
    content = files("recsys.serving").joinpath("page", name).read_bytes()

    async def page() -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return page


def _description(app: FastAPI, guarded: bool) -> dict[str, Any]:
    """The interface's description, with the form of errors, and the key."""
    description = get_openapi(
        title=app.title,
        version=version("recsys"),
        description="What to watch next, what is alike, and why. Items are named by id or title.",
        routes=app.routes,
    )
    parts = description["components"]
    parts["schemas"] |= {"Problem": Problem.model_json_schema()}
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    if guarded:
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in description["paths"].items():
            if is_guarded(path):
                for operation in operations.values():
                    operation["security"] = [{"key": []}]
    return description
