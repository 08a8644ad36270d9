"""Errors as `application/problem+json` responses (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import QueryError, UnknownItemError

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """The body of an error response."""

    title: str
    status: int
    code: str = Field(description="Error code for programs, such as `unknown-item`.")
    detail: str
    closest: list[str] | None = Field(None, description="The most similar titles.")
    errors: list[str] | None = Field(None, description="All validation errors.")


class ProblemError(Exception):
    """An error with the response that reports it."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.response = problem(status, code, detail)


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
    for kind in (ProblemError, QueryError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _to_response)


async def _to_response(_: Request, error: Exception) -> Response:
    match error:
        case ProblemError():
            return error.response
        case UnknownItemError():
            return problem(404, "unknown-item", str(error), closest=list(error.closest))
        case QueryError():
            return problem(409, "invalid-query", str(error))
        case RequestValidationError():
            # Without the input values: they may be long, and they are personal data.
            errors = [
                f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
                for fault in error.errors()
            ]
            return problem(422, "invalid-request", errors[0], errors=errors)
        case HTTPException():
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
            return problem(error.status_code, code, str(error.detail), error.headers)
        case _:
            detail = "internal server error; see the server's log"
            return problem(500, "internal-error", detail)
