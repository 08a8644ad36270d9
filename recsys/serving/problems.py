"""Errors as JSON bodies: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import QueryError, UnknownItemError

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong, for people (`detail`) and for programs (`code`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "title": "Not Found",
                "status": 404,
                "code": "unknown-item",
                "detail": "no item has the id or title 'Toy Stroy'; did you mean "
                "'Toy Story (1995)'?",
                "closest": ["Toy Story (1995)"],
            }
        }
    )

    title: str
    status: int
    code: str
    detail: str
    closest: list[str] | None = Field(None, description="Titles that are spelt like it.")
    errors: list[str] | None = Field(None, description="Every field at fault.")


class ProblemError(Exception):
    """Raised where a request cannot be answered; becomes a response."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.response = problem(status, code, detail, **more)


def problem(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **more: Sequence[str],
) -> Response:
    """A response that tells what went wrong."""
    content = {"title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": detail}
    return Response(orjson.dumps(content | more), status, headers, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an endpoint for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def tell_problems(app: FastAPI) -> None:
    """Have an application answer every error in this form."""
    app.add_exception_handler(ProblemError, _of_problem)
    app.add_exception_handler(UnknownItemError, _of_unknown_item)
    app.add_exception_handler(QueryError, _of_query)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_bug)


async def _of_problem(_: Request, error: Exception) -> Response:
    return cast("ProblemError", error).response


async def _of_unknown_item(_: Request, error: Exception) -> Response:
    return problem(
        404, "unknown-item", str(error), closest=list(cast("UnknownItemError", error).closest)
    )


async def _of_query(_: Request, error: Exception) -> Response:
    """The question is well formed, and this catalogue has no answer to it."""
    return problem(409, "unanswerable", str(error))


async def _of_validation(_: Request, error: Exception) -> Response:
    # Never the input itself: it may be long, and it is what somebody watched.
    faults = [
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in cast("RequestValidationError", error).errors()
    ]
    return problem(422, "invalid-request", faults[0], errors=faults)


async def _of_http(_: Request, error: Exception) -> Response:
    known = cast("HTTPException", error)
    code = HTTPStatus(known.status_code).phrase.lower().replace(" ", "-")
    return problem(known.status_code, code, str(known.detail), known.headers)


async def _of_bug(_: Request, __: Exception) -> Response:
    return problem(500, "internal-error", "something went wrong here; the server's log tells what")
