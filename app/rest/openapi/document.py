"""The OpenAPI document: operations from Litestar, schemas from pydantic, corrected where Litestar
is not exact."""

import json
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus

from litestar import Litestar
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from app.rest.asgi.context import PROBES
from app.rest.openapi.examples import (
    REF,
    TEXTS,
    Json,
    set_content_example,
    set_parameter_example,
)
from app.schemas.types import Body, View

_REQUEST_ID = "X-Request-ID"
# Of every response with this status that has no JSON but a problem, or no body.
_HEADERS_BY_STATUS = {
    "304": "ETag",
    "401": "WWW-Authenticate",
    "429": "Retry-After",
    "503": "Retry-After",
}
# Every response has them, if RATE_LIMIT is set.
_RATE = {
    "RateLimit-Policy": "how many requests (q) a client may send in so many seconds (w)",
    "RateLimit": "how many are left (r), and the seconds (t) after which all are there again",
}
_HEADERS = {
    _REQUEST_ID: "the id in the log: the one that the client sent, or a new one",
    "ETag": "the version that the client has: it is still the newest",
    "WWW-Authenticate": "`Bearer`: the scheme in which the key may be sent",
    "Retry-After": "the seconds to wait before the next attempt",
    **_RATE,
}


@cache
def document_of(app: Litestar) -> Json:
    # Litestar writes the bounds of integers as floats, and no other floats.
    document: Json = json.loads(json.dumps(app.openapi_schema.to_schema()), parse_float=_whole)
    schemas = document["components"]["schemas"]
    schemas.update({name: s for name, s in pydantic_schemas().items() if name in schemas})
    document["components"]["headers"] = {name: _header(text) for name, text in _HEADERS.items()}
    settings = app.state.container.settings
    document["servers"] = [{"url": settings.root_path or "/"}]
    if settings.api_key is None:
        _remove_security(document)
    _remove_rate(document, everywhere=settings.rate is None)
    _remove_origin_from_reads(document)
    for operation in _operations(document):
        _correct_parameters(operation)
        _correct_responses(operation)
        _add_text(operation)
        for content in _contents(operation):
            set_content_example(content, schemas)
    return document


def _whole(number: str) -> int:
    return int(float(number))


def _remove_security(document: Json) -> None:
    document["security"] = []  # "nobody asks for a key"; without it, linters see it forgotten
    del document["components"]["securitySchemes"]
    del document["components"]["headers"]["WWW-Authenticate"]
    for operation in _operations(document):
        operation["responses"].pop("401", None)


def _remove_rate(document: Json, everywhere: bool) -> None:
    """Probes are not counted."""
    if everywhere:
        for name in _RATE:
            del document["components"]["headers"][name]
    for path, operations in document["paths"].items():
        if everywhere or path.startswith(PROBES):
            for operation in operations.values():
                operation["responses"].pop("429", None)


def _operations(document: Json) -> Iterator[Json]:
    for path in document["paths"].values():
        yield from path.values()


def _remove_origin_from_reads(document: Json) -> None:
    """A page of another origin may send a GET: the browser does not show it the response."""
    for path in document["paths"].values():
        if "get" in path:
            path["get"]["responses"].pop("403", None)


def _correct_parameters(operation: Json) -> None:
    for parameter in operation.get("parameters", ()):
        set_parameter_example(operation, parameter)
        parameter["schema"] = _without_null(parameter["schema"])


def _without_null(schema: Json) -> Json:
    """No path, query or header can say null: a parameter is absent, or has the other schema."""
    kinds = [kind for kind in schema.pop("oneOf", ()) if kind != {"type": "null"}]
    return {**(kinds[0] if kinds else {}), **schema}


def _correct_responses(operation: Json) -> None:
    names = [_REQUEST_ID, *(_RATE if "429" in operation["responses"] else ())]
    operation["responses"] = dict(sorted(operation["responses"].items()))
    for status, response in operation["responses"].items():
        response["description"] = HTTPStatus(int(status)).phrase
        response["headers"] = {**_headers(response), **_headers_of_all(names, status, response)}


def _headers(response: Json) -> Json:
    """Those that the handler names: all are text."""
    named = response.get("headers", {})
    return {
        name: _header(header["description"], header["required"]) for name, header in named.items()
    }


def _header(description: str, required: bool = True) -> Json:
    return {"description": description, "required": required, "schema": {"type": "string"}}


def _headers_of_all(names: list[str], status: str, response: Json) -> Json:
    if status in _HEADERS_BY_STATUS and "application/json" not in response.get("content", {}):
        names = [*names, _HEADERS_BY_STATUS[status]]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _add_text(operation: Json) -> None:
    """What a response is beside JSON, or in its place: Litestar's document has one media type for
    each response, and no example of a text."""
    if text := TEXTS.get(operation["operationId"]):
        media_type, example = text
        schema = {"type": "string", "examples": [example]}
        operation["responses"]["200"]["content"][media_type] = {"schema": schema}


def _contents(operation: Json) -> Iterator[Json]:
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from part.get("content", {}).values()


def pydantic_schemas() -> dict[str, Json]:
    """Litestar makes schemas from the models' annotations alone; pydantic knows what it accepts and
    what it writes."""
    bodies = [(model, "validation") for model in _models_below(Body)]
    views = [(model, "serialization") for model in _models_below(View)]
    _, schemas = models_json_schema(
        [*bodies, *views],  # type: ignore[list-item]
        ref_template=f"{REF}{{model}}",
        schema_generator=_Schemas,
    )
    return dict(schemas["$defs"])


def _models_below(base: type[BaseModel]) -> list[type[BaseModel]]:
    return [m for sub in base.__subclasses__() for m in (sub, *_models_below(sub))]


class _Schemas(GenerateJsonSchema):
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Without `default: null`, which fields that may be absent have but would not accept."""
        result = super().default_schema(schema)
        return {k: v for k, v in result.items() if k != "default" or v is not None}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Described as a whole: few readers look for it in the parts of an `anyOf`."""
        result = super().nullable_schema(schema)
        described = [part for part in result.get("anyOf", ()) if "description" in part]
        return {**result, **{"description": part.pop("description") for part in described}}

    def field_title_should_be_set(self, schema: object) -> bool:
        return False
