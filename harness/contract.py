"""What the OpenAPI document promises to clients, one promise a line."""

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

Json = dict[str, Any]

_REF = "#/components/schemas/"
# They explain, and bind nobody.
_NOTES = {"description", "title", "example", "examples", "default", "readOnly"}
_MUST, _MAY, _GIVEN = "must be sent", "may be sent", "is given"


class Changes(NamedTuple):
    breaking: list[str]
    harmless: list[str]


def changes(old: Iterable[str], new: Iterable[str]) -> Changes:
    """A client may break when something is gone or different, or when more is asked of it."""
    before, after = set(old), set(new)
    added = sorted(after - before)
    demanded = [f"+ {line}" for line in added if _MUST in line]
    return Changes(
        [*(f"- {line}" for line in sorted(before - after)), *demanded],
        [f"+ {line}" for line in added if _MUST not in line],
    )


def promises(document: Json) -> list[str]:
    schemas = document["components"]["schemas"]
    sent = _sent(document)
    lines = [line for name, schema in schemas.items() for line in _fields(name, schema, sent)]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += _operation(f"{method.upper()} {path}", operation)
    return sorted(lines)


def _operation(name: str, operation: Json) -> Iterator[str]:
    yield f"{name} is {operation['operationId']}"
    for parameter in operation.get("parameters", ()):
        asked = _MUST if parameter["required"] else _MAY
        where = f"{parameter['in']} {parameter['name']}"
        yield f"{name} {where} {asked}: {_rule(parameter['schema'])}"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"{name} {kind} {_MUST}: {_rule(content['schema'])}"
    for status, response in operation["responses"].items():
        yield from _response(f"{name} {status}", response)


def _response(name: str, response: Json) -> Iterator[str]:
    bodies = {kind: content["schema"] for kind, content in response.get("content", {}).items()}
    yield f"{name} {_GIVEN}: {_rule(bodies)}"
    for header, described in response["headers"].items():
        if "$ref" not in described:  # those are not the operation's own
            yield f"{name} {header} {_GIVEN}"


def _fields(name: str, schema: Json, sent: set[str]) -> Iterator[str]:
    if "properties" not in schema:
        yield f"{name}: {_rule(schema)}"
    for field, rules in schema.get("properties", {}).items():
        asked = _MUST if field in schema.get("required", ()) else _MAY
        yield f"{name}.{field} {asked if name in sent else _GIVEN}: {_rule(rules)}"


def _sent(document: Json) -> set[str]:
    """The schemas of what clients send."""
    found: set[str] = set()
    waiting = [
        op.get("requestBody", {}) for ops in document["paths"].values() for op in ops.values()
    ]
    while waiting:
        names = set(_references(waiting.pop())) - found
        found |= names
        waiting += [document["components"]["schemas"][name] for name in names]
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if str(part.get("$ref", "")).startswith(_REF):
            yield part["$ref"].removeprefix(_REF)
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from _references(inner)


def _rule(schema: Json) -> str:
    return json.dumps(_bare(schema), sort_keys=True, ensure_ascii=False).replace(_REF, "")


def _bare(part: Any) -> Any:
    if isinstance(part, list):
        return [_bare(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    rules = {key: _bare(value) for key, value in part.items() if key not in _NOTES}
    if len(rules.get("pattern", "")) > 100:  # nobody reads those
        rules["pattern"] = sha256(rules["pattern"].encode()).hexdigest()[:12]
    return rules
