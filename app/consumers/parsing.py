"""From a delivery to a body of its handler's schema, or Poison that says what is wrong."""

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from app.errors import Poison
from app.messaging.broker import Delivery
from app.schemas.problems import TOO_MANY_FIELDS, error_text, has_too_many_fields

MOST_BYTES = 1024 * 1024


def is_usable(message_id: str | None) -> bool:
    """Whether the message can be recorded under this id."""
    return message_id is not None and 0 < len(message_id) <= 255 and message_id.isprintable()


def parse(delivery: Delivery, schema: type[BaseModel]) -> BaseModel:
    """Raises Poison; its `field` is the first wrong one."""
    if delivery.message_id is not None and not is_usable(delivery.message_id):
        raise Poison("message-id", "the message id must be 1 to 255 printable characters")
    if delivery.message_id is None and delivery.redelivered:
        # It may have been applied before its connection broke: nobody can tell.
        raise Poison("ambiguous-redelivery", "delivered again without a message id")
    if len(delivery.body) > MOST_BYTES:
        raise Poison("too-large", f"the body is larger than {MOST_BYTES} bytes")
    return parse_body(delivery.body, schema)


def parse_body(body: bytes, schema: type[BaseModel]) -> BaseModel:
    try:
        # JSON has no NaN and no Infinity, but pydantic's own parser would let them through.
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Poison("decode", str(error)) from None
    if has_too_many_fields(document):
        raise Poison("validation", TOO_MANY_FIELDS)
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = _printable(".".join(map(str, first["loc"])))
        detail = f"{field}: {error_text(first)}" if field else error_text(first)
        raise Poison("validation", detail, field) from None


def _printable(text: str) -> str:
    """The sender chose the name of an unknown field: it must fit a header and a column."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])
