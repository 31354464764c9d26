"""Every error as application/problem+json, and the one table from errors to status codes."""

from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap

from app.errors import (
    Duplicate,
    IllegalStep,
    NotFound,
    OutOfStock,
    Refusal,
    StillNeeded,
    Unavailable,
)
from app.schemas.problems import FieldError, Problem

log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"

_STATUS: dict[type[Refusal], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Duplicate: HTTPStatus.BAD_REQUEST,
    OutOfStock: HTTPStatus.CONFLICT,
    IllegalStep: HTTPStatus.CONFLICT,
    StillNeeded: HTTPStatus.CONFLICT,
}
_DETAIL = {
    400: "the body is not valid JSON",
    404: "there is nothing at this address",
    405: "this address does not take this method: see the Allow header",
    413: "the body is too large",
    415: "send JSON, with Content-Type: application/json",
}


def problem(
    request_id: str,
    status: int,
    detail: str | None = None,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> Response[bytes]:
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail or _DETAIL.get(status, HTTPStatus(status).phrase),
        request_id=request_id,
        **fields,
    )
    return Response(
        body.model_dump_json(exclude_none=True).encode(),
        status_code=status,
        media_type=PROBLEM_JSON,
        headers=headers,
    )


def _request_id(request: Request[Any, Any, Any]) -> str:
    return str(request.scope["state"].get("request_id", ""))


def _refused(request: Request[Any, Any, Any], error: Refusal) -> Response[bytes]:
    return problem(
        _request_id(request),
        _STATUS[type(error)],
        error.detail,
        reason=error.reason,
        facts=error.facts or None,
    )


def _unavailable(request: Request[Any, Any, Any], error: Unavailable) -> Response[bytes]:
    log.warning("unavailable", error=str(error), cause=repr(error.__cause__))
    return problem(_request_id(request), 503, f"{error}; try again", {"Retry-After": "1"})


def _invalid(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    found = error.extra if isinstance(error.extra, list) else []
    errors = [
        FieldError(field=str(e.get("key", "")), message=str(e.get("message", ""))) for e in found
    ]
    return problem(
        _request_id(request), 422, "some fields are invalid: see errors", errors=errors or None
    )


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    headers = {k: v for k, v in (error.headers or {}).items() if k.lower() == "allow"}
    return problem(_request_id(request), error.status_code, headers=headers)


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("request failed", exc_info=error)
    return problem(_request_id(request), 500, "this is our fault and has been logged")


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    Refusal: _refused,
    Unavailable: _unavailable,
    ValidationException: _invalid,
    HTTPException: _http,
    Exception: _failed,
}


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """The errors of an operation, for the OpenAPI document."""
    return {
        status: ResponseSpec(
            Problem,
            generate_examples=False,
            description=HTTPStatus(status).phrase,
            media_type=PROBLEM_JSON,
        )
        for status in sorted({*statuses, 503})
    }
