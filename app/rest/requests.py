"""Checks of a request before its controller. Litestar alone would let more pass."""

from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.enums import ParamType
from litestar.exceptions import NotFoundException, ValidationException
from litestar.params import ParameterKwarg
from litestar.typing import FieldDefinition

from app.rest.errors import ClientError, allow_header

# As a float, a price of 1e-400 would be 0, and valid.
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class JsonRequest(Request[None, None, State]):
    async def json(self) -> Any:
        body = await self.body()
        try:
            return _decode(body)
        except (ValueError, ArithmeticError, RecursionError):
            raise ClientError(status_code=400, detail="the body is not valid JSON") from None


async def before_request(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Rejects all spellings of a resource but one: an id is written 1, not 01, +1 or 1_0; a query
    parameter comes once, and an absent one is not written as null. Responds to OPTIONS."""
    segments = request.scope["path"].split("/")
    for value in request.path_params.values():
        if isinstance(value, int) and str(value) not in segments:
            raise NotFoundException
    if request.scope["query_string"] and (ambiguous := _ambiguous(request)):
        raise ValidationException(extra=[{"key": name} for name in sorted(ambiguous)])
    return _methods(request) if request.method == "OPTIONS" else None


def _ambiguous(request: Request[Any, Any, Any]) -> set[str]:
    """The query parameters that came twice or as null. Unknown ones are ignored."""
    given = list(request.query_params.multi_items())
    times = Counter(name for name, _ in given)
    wrong = {name for name, value in given if times[name] > 1 or value.lower() == "null"}
    known = request.route_handler.parsed_fn_signature.parameters
    return {name for name in wrong if name in known and _is_in_query(known[name])}


def _is_in_query(parameter: FieldDefinition) -> bool:
    definition = parameter.kwarg_definition
    return isinstance(definition, ParameterKwarg) and definition.param_type == ParamType.QUERY


def _methods(request: Request[Any, Any, Any]) -> Response[None]:
    """Litestar's own response to OPTIONS lacks the methods that were registered after it."""
    here = request.scope["path_template"]
    methods = {
        m for route in request.app.routes if route.path_format == here for m in route.methods
    }
    return Response(None, status_code=204, headers={"Allow": allow_header(methods)})
