"""Every error as application/problem+json. One table maps the shop's errors to status codes."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import QueryParameter
from litestar.types import ExceptionHandlersMap, HTTPScope, Receive, Send
from litestar.typing import FieldDefinition

from app.errors import (
    BadCursor,
    Duplicate,
    IllegalStep,
    KeyReused,
    NotFound,
    NotYet,
    OutOfStock,
    Refusal,
    StillNeeded,
    TooMuchStock,
    Unavailable,
    VersionMismatch,
)
from app.schemas.problems import MOST_ERRORS, FieldError, Problem, field_errors, field_name

log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
# In the state of a request: more fields of its log line, by their names.
TOLD = "told"

STATUSES: dict[type[Refusal], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Duplicate: HTTPStatus.BAD_REQUEST,
    OutOfStock: HTTPStatus.CONFLICT,
    IllegalStep: HTTPStatus.CONFLICT,
    TooMuchStock: HTTPStatus.CONFLICT,
    StillNeeded: HTTPStatus.CONFLICT,
    NotYet: HTTPStatus.CONFLICT,
    KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadCursor: HTTPStatus.UNPROCESSABLE_ENTITY,
    VersionMismatch: HTTPStatus.PRECONDITION_FAILED,
}
_DETAIL = {
    400: "the request is malformed",
    401: "send the API key",
    403: "a page of another origin may not do this",
    404: "there is no resource at this path",
    405: "this resource does not take this method: see the Allow header",
    409: "the current state does not allow it",
    412: "it has been changed since you read it: read it again",
    413: "the body is too large",
    415: "send JSON, with Content-Type: application/json",
    422: "some fields are invalid: see errors",
    429: "too many requests came from you; wait as long as Retry-After says",
    503: "the database does not answer; try again",
}


class ClientError(HTTPException):
    """Its detail is sent to the client. Those of Litestar are not: they may echo the input."""


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


def _refusal(request: Request[Any, Any, Any], error: Refusal) -> Response[bytes]:
    told = request.scope["state"].get(TOLD, {})
    told.update(reason=error.reason, detail=error.detail)
    return problem(
        _request_id(request),
        STATUSES[type(error)],
        error.detail,
        reason=error.reason,
        facts=error.facts or None,
    )


def _unavailable(request: Request[Any, Any, Any], error: Unavailable) -> Response[bytes]:
    log.warning("unavailable", error=str(error), cause=repr(error.__cause__))
    return problem(_request_id(request), 503, f"{error}; try again", {"Retry-After": "1"})


def _invalid(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    in_body = getattr(error.__cause__, "errors", None)  # as pydantic lists them
    errors = field_errors(in_body) if in_body else _outside_body(request, error.extra)
    return problem(_request_id(request), 422, errors=errors or None)


_UNKNOWN = "is not a parameter of this resource"


def _outside_body(request: Request[Any, Any, Any], found: Any) -> list[FieldError]:
    handler = request.route_handler
    known = dict(handler.parsed_fn_signature.parameters)
    for provider in handler.resolve_dependencies().values():
        known |= provider.parsed_fn_signature.parameters
    errors = [_parameter_error(known[e["key"]]) for e in found if e.get("key") in known]
    unknown = [field_name(e["unknown"]) for e in found if "unknown" in e][:MOST_ERRORS]
    return errors + [FieldError(field=name, message=_UNKNOWN) for name in unknown]


def _parameter_error(parameter: FieldDefinition) -> FieldError:
    """In the words of its description: Litestar's own message may echo the input."""
    words = getattr(parameter.kwarg_definition, "description", None)
    if words is None:  # not a parameter but the body, which is missing
        return FieldError(field="", message="must be a JSON object")
    return FieldError(field=parameter_name(parameter), message=f"must be {words}")


def parameter_name(parameter: FieldDefinition) -> str:
    """As a query has it: `from`, say, is no name in Python."""
    definition = parameter.kwarg_definition
    return (isinstance(definition, QueryParameter) and definition.name) or parameter.name


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    methods = (error.headers or {}).get("allow")
    headers = {"Allow": allow_header(methods.split(", "))} if methods else None
    detail = error.detail if isinstance(error, ClientError) else None
    return problem(_request_id(request), error.status_code, detail, headers)


def allow_header(methods: Collection[str]) -> str:
    """With HEAD wherever GET is allowed: see asgi/context.py."""
    return ", ".join(sorted({*methods, *({"HEAD"} if "GET" in methods else ())}))


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("request failed", exc_info=error)
    return problem(_request_id(request), 500, "this is our fault and has been logged")


def _group(request: Request[Any, Any, Any], group: ExceptionGroup[Exception]) -> Response[bytes]:
    """The unit of work turns some errors of a handler into others, such as a violated constraint
    into Duplicate. Litestar wraps the new error in a group."""
    return response_to(request, group.exceptions[0])


def response_to(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    kinds = ((kind, h) for kind, h in EXCEPTION_HANDLERS.items() if isinstance(kind, type))
    return next(handler(request, error) for kind, handler in kinds if isinstance(error, kind))


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    Refusal: _refusal,
    Unavailable: _unavailable,
    ValidationException: _invalid,
    HTTPException: _http,
    ExceptionGroup: _group,
    Exception: _failed,
}


async def send_error(error: Exception, scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Sends the response that Litestar would, for an error that does not pass through Litestar."""
    request: Request[None, None, Any] = Request(scope)
    response = response_to(request, error).to_asgi_response(None, request)
    await response(scope, receive, send)


def error_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """The OpenAPI document's responses of an operation, beside success: these, and those that every
    operation may give."""
    # 400, 401 and, where there is a body, 408 come from the Gatekeeper.
    # A document has 429 if RATE_LIMIT is set, and 401 if API_KEY is; that of a GET is spared the
    # 403: see openapi/document.py.
    everywhere = {400, 401, 403, 429, 503, *({408} if 413 in statuses else ())}
    return {s: _response_spec(HTTPStatus(s)) for s in sorted({*statuses, *everywhere})}


def _response_spec(status: HTTPStatus) -> ResponseSpec:
    if status == HTTPStatus.NOT_MODIFIED:
        return ResponseSpec(None)
    detail = _DETAIL.get(status, status.phrase)
    example = Problem(title=status.phrase, status=status, detail=detail, request_id="7f9c2ba4e88f")
    return ResponseSpec(
        Problem,
        generate_examples=False,
        media_type=PROBLEM_JSON,
        examples=[Example(value=example.model_dump(exclude_none=True))],
    )
