"""The document's examples: sent in its order, after producer.py, each request succeeds."""

from typing import Any

Json = dict[str, Any]

# Responses that are text, by operation: the media type and an example.
TEXTS = {
    "reports_list": (
        "text/csv",
        "id,report_at,order_id,count_product,created_at\r\n"
        "1,2025-12-16,1,4,2025-12-16T12:50:00.089033\r\n",
    ),
    "reports_chart": ("image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg"></svg>'),
    "orders_life": ("text/html", "<!doctype html><title>Order 1</title>"),
    "dead_letters_count": ("text/html", "<!doctype html><title>Dead letters</title>"),
    "dead_letters_list": ("text/html", "<!doctype html><title>Dead letters of order</title>"),
    "dead_letters_read": ("text/html", "<!doctype html><title>Dead letter LETTER_ID</title>"),
}
REF = "#/components/schemas/"
# A DELETE deletes the row that the POST before it has made: no order needs that one.
_DELETED_IDS = {"users_delete": 2, "addresses_delete": 2, "products_delete": 6}


def set_parameter_example(operation: Json, parameter: Json) -> None:
    given = [example["value"] for example in parameter.pop("examples", {}).values()]
    if operation["operationId"] in _DELETED_IDS:
        given = parameter["schema"]["examples"] = [_DELETED_IDS[operation["operationId"]]]
    if given:
        parameter["example"] = given[0]


def set_content_example(content: Json, schemas: Json) -> None:
    given = [example["value"] for example in content.pop("examples", {}).values()]
    content["example"] = given[0] if given else example_of(content["schema"], schemas)


def example_of(schema: Json, schemas: Json) -> Any:
    """Made of the examples of the schema's fields; null for a field that has none."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].removeprefix(REF)], schemas)
    if "properties" in schema:
        return {name: example_of(field, schemas) for name, field in schema["properties"].items()}
    if "items" in schema:
        return [example_of(schema["items"], schemas)]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], schemas)
    return schema.get("default", next(iter(schema.get("enum", ())), None))
