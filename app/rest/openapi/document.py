"""The OpenAPI document: operations by Litestar, schemas by pydantic, examples by the fields."""

import json
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Any

from litestar import Litestar
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from app.schemas.types import Body, View

_REF = "#/components/schemas/"

Json = dict[str, Any]


class _Schemas(GenerateJsonSchema):
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A field that may be left out has no default of null that it would not accept."""
        result = super().default_schema(schema)
        return {k: v for k, v in result.items() if k != "default" or v is not None}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@cache
def document_of(app: Litestar) -> Json:
    # Litestar writes the bounds of integers as floats; it writes no other floats.
    document: Json = json.loads(json.dumps(app.openapi_schema.to_schema()), parse_float=_whole)
    schemas = document["components"]["schemas"]
    schemas.update({name: s for name, s in _pydantic_schemas().items() if name in schemas})
    if app.state.container.settings.api_key is None:
        _forget_key(document)
    for operation in _operations(document):
        _correct(operation)
        for content in _contents(operation):
            given = [example["value"] for example in content.pop("examples", {}).values()]
            content["example"] = given[0] if given else _example(content["schema"], schemas)
    return document


def _forget_key(document: Json) -> None:
    del document["security"], document["components"]["securitySchemes"]
    for operation in _operations(document):
        operation["responses"].pop("401", None)


def _whole(number: str) -> int:
    return int(float(number))


def _pydantic_schemas() -> dict[str, Json]:
    """Litestar reads the models' annotations; pydantic knows what it accepts and writes."""
    bodies = [(model, "validation") for model in _models_below(Body)]
    views = [(model, "serialization") for model in _models_below(View)]
    _, schemas = models_json_schema(
        [*bodies, *views],  # type: ignore[list-item]
        ref_template=f"{_REF}{{model}}",
        schema_generator=_Schemas,
    )
    return dict(schemas["$defs"])


def _models_below(base: type[BaseModel]) -> list[type[BaseModel]]:
    return [m for sub in base.__subclasses__() for m in (sub, *_models_below(sub))]


def _operations(document: Json) -> Iterator[Json]:
    for path in document["paths"].values():
        yield from path.values()


def _correct(operation: Json) -> None:
    for parameter in operation.get("parameters", ()):
        for example in parameter.pop("examples", {}).values():
            parameter["example"] = example["value"]
        parameter["schema"] = _never_null(parameter["schema"])
    operation["responses"] = dict(sorted(operation["responses"].items()))
    for status, response in operation["responses"].items():
        response["description"] = HTTPStatus(int(status)).phrase


def _never_null(schema: Json) -> Json:
    """An address has no null: what may be absent has the schema of what is there."""
    kinds = [kind for kind in schema.pop("oneOf", ()) if kind != {"type": "null"}]
    return {**(kinds[0] if kinds else {}), **schema}


def _contents(operation: Json) -> Iterator[Json]:
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from part.get("content", {}).values()


def _example(schema: Json, known: dict[str, Json]) -> Any:
    """What the schema's own examples make together; null where there is none."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return _example(known[schema["$ref"].removeprefix(_REF)], known)
    if "properties" in schema:
        return {name: _example(field, known) for name, field in schema["properties"].items()}
    if "items" in schema:
        return [_example(schema["items"], known)]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], known)
    return schema.get("default", next(iter(schema.get("enum", ())), None))
