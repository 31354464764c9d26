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

from app.rest.errors import ClientError, allow_header, parameter_name
from app.schemas.problems import TOO_MANY_FIELDS, has_too_many_fields

_TAKES_ANY = ("/health/", "/metrics", "/docs", "/schema/")
# As a float, a price of 1e-400 would be 0, and valid.
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class JsonRequest(Request[None, None, State]):
    async def json(self) -> Any:
        body = await self.body()
        try:
            document = _decode(body)
        except (ValueError, ArithmeticError, RecursionError):
            raise ClientError(status_code=400, detail="the body is not valid JSON") from None
        if has_too_many_fields(document):
            raise ClientError(status_code=422, detail=TOO_MANY_FIELDS)
        return document


async def before_request(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Rejects all spellings of a resource but one: an id is written 1, not 01, +1 or 1_0; a query
    parameter comes once, and an absent one is not written as null. Responds to OPTIONS."""
    segments = request.scope["path"].split("/")
    for value in request.path_params.values():
        if isinstance(value, int) and str(value) not in segments:
            raise NotFoundException
    if request.scope["query_string"] and (wrong := _wrong_parameters(request)):
        raise ValidationException(extra=wrong)
    return _methods(request) if request.method == "OPTIONS" else None


def _wrong_parameters(request: Request[Any, Any, Any]) -> list[dict[str, str]]:
    """Query parameters that came twice or as null; and unknown ones, which would be ignored without
    a word. Probes and the documentation take any: some clients add one against caches."""
    given = list(request.query_params.multi_items())
    times = Counter(name for name, _ in given)
    parameters = request.route_handler.parsed_fn_signature.parameters
    known = {parameter_name(p): name for name, p in parameters.items() if _is_in_query(p)}
    ambiguous = {
        n for n, value in given if n in known and (times[n] > 1 or value.lower() == "null")
    }
    wrong = [{"key": known[name]} for name in sorted(ambiguous)]
    if not request.url.path.startswith(_TAKES_ANY):
        wrong += [{"unknown": name} for name in sorted(times.keys() - known.keys())]
    return wrong


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
