"""Which broker the settings ask for."""

from app.messaging.broker import Broker
from app.settings import Settings


def open_broker(settings: Settings) -> Broker:
    """Connects at its first use. The caller closes it.

    A broker is imported only when it is chosen: each has a client library of its own, which costs
    megabytes of memory and tenths of a second."""
    # pylint: disable=import-outside-toplevel
    if settings.queue_transport == "streams":
        from app.messaging.streams import Streams

        return Streams(settings.streams_address)
    from app.messaging.rabbitmq import RabbitMQ

    return RabbitMQ(settings.rabbitmq_address)
