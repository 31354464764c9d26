"""The table of docs/settings.md, from app/settings.py."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.settings import ROOT, ReadBy, Settings

_HEAD = ["| variable | type | default | | for |", "|---|---|---|---|---|"]
_TYPES = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text"}
_FORMATS = {"password": "text, secret", "path": "path"}


def table() -> list[str]:
    schemas = Settings.model_json_schema()["properties"]
    rows = [_row(name, field, schemas[name]) for name, field in Settings.model_fields.items()]
    return [*_HEAD, *rows]


def _row(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    described = " ".join((field.description or "").split())
    readers = next((kind for kind in field.metadata if isinstance(kind, ReadBy)), ("all",))
    cells = (f"`{name.upper()}`", _type(schema), _default(field.default), described)
    return f"| {' | '.join(cells)} | {', '.join(readers)} |"


def _type(schema: dict[str, Any]) -> str:
    schema = schema.get("anyOf", [schema])[0]
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kind = _FORMATS.get(schema.get("format", ""), _TYPES[schema["type"]])
    least = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    most = schema.get("maximum", schema.get("exclusiveMaximum", 0) - 1)
    if "minimum" not in schema and "exclusiveMinimum" not in schema:
        return kind
    return f"{kind}, {least} to {most}" if most > 0 else f"{kind}, {least} or more"


def _default(value: object) -> str:
    match value:
        case None | "":
            return ""
        case SecretStr():
            return f"`{value.get_secret_value()}`"
        case bool():
            return f"`{value}`".lower()
        case Path():
            return f"`{value.relative_to(ROOT)}`"
    return f"`{value}`"
