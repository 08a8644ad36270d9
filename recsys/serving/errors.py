"""Errors as `application/problem+json` responses (RFC 9457)."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from recsys.errors import QueryError, UnknownItemError

_LOGGER = logging.getLogger("recsys.serving")

MEDIA_TYPE = "application/problem+json"

_METHODS = ("DELETE", "GET", "POST")
_TYPE = re.compile(r"\[|^(int|constrained-str|GenreFilter)$")
_WORDS = (
    (r"^(Input|List|String) should", "must"),
    (" after validation", ""),
    ("a valid (list|number)", r"a \1"),
    ("a valid string", "text"),
    ("a valid integer", "an integer"),
    ("a valid boolean", "true or false"),
    ("a valid dictionary .*", "an object"),
    ("^Field required", "is required"),
    ("^Extra inputs are not permitted", "there is no such field"),
    ("^must match pattern .*", "is not the id of a session"),
)


class Problem(BaseModel):
    """The body of an error response."""

    title: str
    status: int
    code: str = Field(description="Error code for programs, such as `unknown-item`.")
    detail: str
    closest: list[str] | None = Field(
        None, description="The most similar titles, or ids of items that share theirs."
    )
    errors: list[str] | None = Field(None, description="All validation errors.")


class ProblemError(Exception):
    """An error with the response that reports it."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.response = problem(status, code, detail, headers)


def problem(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **extra: Sequence[str],
) -> Response:
    """Create an error response."""
    content = {"title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": detail}
    return Response(orjson.dumps(content | extra), status, headers, MEDIA_TYPE)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of an endpoint, for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def register_error_handlers(app: FastAPI) -> None:
    """Make an application return all errors as problems."""
    known = (ProblemError, QueryError, RequestValidationError, HTTPException, sqlite3.Error)
    for kind in (*known, Exception):
        app.add_exception_handler(kind, _to_response)


def describe_faults(faults: Iterable[Mapping[str, Any]]) -> list[str]:
    """Validation errors in words: each field once, with all that it may be."""
    messages: dict[str, dict[str, None]] = {}
    for fault in faults:
        # A location starts with the part of the request and names types of unions.
        parts = [str(part) for part in fault["loc"][1:] if not _TYPE.search(str(part))]
        message = fault["msg"].removeprefix("Value error, ")
        for pattern, words in _WORDS:
            message = re.sub(pattern, words, message)
        messages.setdefault(".".join(parts), {})[message] = None
    return [
        f"{field}: {', or '.join(found)}" if field else ", or ".join(found)
        for field, found in messages.items()
    ]


def _allowed_methods(request: Request) -> str:
    """The methods that any route answers for the requested path."""
    scopes = {method: {**request.scope, "method": method} for method in _METHODS}
    return ", ".join(
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] == Match.FULL for route in request.app.routes)
    )


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


async def _to_response(request: Request, error: Exception) -> Response:
    match error:
        case ProblemError():
            return error.response
        case UnknownItemError():
            return problem(404, "unknown-item", str(error), closest=list(error.closest))
        case QueryError():
            return problem(409, "invalid-query", str(error))
        case RequestValidationError():
            # Without the input values: they may be long, and they are personal data.
            errors = describe_faults(error.errors())
            if request.method == "POST" and not _is_json(request):
                errors = ["the body must have the header Content-Type: application/json"]
            return problem(422, "invalid-request", errors[0], errors=errors)
        case HTTPException(status_code=405):
            detail = f"{request.url.path} does not answer {request.method}"
            return problem(405, "method-not-allowed", detail, {"Allow": _allowed_methods(request)})
        case HTTPException():
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
            return problem(error.status_code, code, str(error.detail), error.headers)
        case sqlite3.Error():  # the disk is full, or the file was removed
            _LOGGER.error("sessions cannot be stored: %s", error)
            detail = "sessions cannot be stored: retry in some seconds"
            return problem(503, "sessions-unavailable", detail, {"Retry-After": "5"})
        case _:
            detail = "internal server error; see the server's log"
            return problem(500, "internal-error", detail)
