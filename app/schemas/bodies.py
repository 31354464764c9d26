"""The bodies of queue messages."""

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from app.errors import Poison
from app.schemas.messages import Queue
from app.schemas.orders import OrderCreate, OrderUpdateMessage
from app.schemas.problems import error_text
from app.schemas.products import ProductCreate, ProductUpdateMessage

_SCHEMAS: dict[Queue, type[BaseModel]] = {
    Queue.PRODUCT: ProductCreate,
    Queue.PRODUCT_UPDATE: ProductUpdateMessage,
    Queue.ORDER: OrderCreate,
    Queue.ORDER_UPDATE: OrderUpdateMessage,
}


def parse(queue: Queue, body: bytes) -> BaseModel:
    """Raises Poison that names the first wrong field."""
    try:
        # NaN and Infinity are no JSON; pydantic's own reading would let them through to the fields.
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Poison("decode", str(error)) from None
    try:
        return _SCHEMAS[queue].model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = _line(".".join(map(str, first["loc"])))
        detail = f"{field}: {error_text(first)}" if field else error_text(first)
        raise Poison("validation", detail, field) from None


def _line(text: str) -> str:
    """The name of an unknown field is its sender's: neither header nor column takes all of them."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])
