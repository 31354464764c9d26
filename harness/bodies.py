"""Valid bodies, and a list of the fields that a schema rejects in another."""

import json
from typing import Any

from pydantic import BaseModel, ValidationError

USER = {"username": "jane_doe", "email": "jane@example.com", "description": "Designer"}
ADDRESS = {"street": "Obere Str. 57", "city": "Berlin", "country": "Germany"}
PRODUCT = {"name": "Green tea", "price": "19.90", "stock_quantity": 50}
LINE = {"product_id": 1, "quantity": 2}
ORDER = {"user_id": 1, "delivery_address_id": 1, "items": [LINE]}


def wrong_fields(schema: type[BaseModel], body: Any) -> list[str]:
    """The paths of the rejected fields; the body goes through JSON first, as over the wire."""
    try:
        schema.model_validate_json(json.dumps(body))
    except ValidationError as error:
        return [".".join(map(str, found["loc"])) for found in error.errors()]
    return []
