"""Where the AMQP library asks more of a message than RabbitMQ does, or says less of an error."""

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


def explain(error: BaseException, url_host: str) -> str:
    """One line that names the variable to look at."""
    text = str(error) or "no answer in time"
    if "ACCESS_REFUSED" in text or "403" in text:
        return f"RabbitMQ refused the login: see RABBITMQ_USER and RABBITMQ_PASSWORD ({text})"
    if "PRECONDITION_FAILED" in text:
        return f"RabbitMQ has a queue of this name with other arguments: delete it ({text})"
    # aiormq keeps no more of the reason than that the opening of the vhost was answered by a close.
    if "OpenOk" in text or "vhost" in text.lower() or "NOT_ALLOWED" in text:
        return (
            f"RabbitMQ refuses the vhost of {url_host}: see RABBITMQ_VHOST, or create it "
            "(rabbitmqctl add_vhost) and let RABBITMQ_USER in (rabbitmqctl set_permissions)"
        )
    return f"RabbitMQ does not answer at {url_host}: see RABBITMQ_HOST and RABBITMQ_PORT ({text})"
