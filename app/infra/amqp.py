"""Where the AMQP library asks more of a message than RabbitMQ does."""

from typing import Any

import structlog
from pamqp.commands import Basic

log = structlog.get_logger(__name__)

_read: Any = Basic.Properties.unmarshal


def _read_what_is_readable(properties: Basic.Properties, flags: int, data: bytes) -> None:
    """Keeps the properties before the one that is no text, or a time beyond the years."""
    try:
        _read(properties, flags, data)
    except Exception as error:
        log.warning("unreadable property of a message", error=str(error))


def accept_any_properties() -> None:
    """Else one such message ends the connection that it comes by, and the next one, for ever."""
    Basic.Properties.unmarshal = _read_what_is_readable  # type: ignore[method-assign, assignment]


def shortened(text: str) -> str:
    """What a short string can hold of it."""
    return text.encode(errors="backslashreplace")[:255].decode(errors="ignore")
