"""Which broker the settings ask for."""

from app.messaging.broker import Broker
from app.messaging.rabbitmq import RabbitMQ
from app.messaging.streams import Streams
from app.settings import Settings


def open_broker(settings: Settings) -> Broker:
    """Connects at its first use. The caller closes it."""
    if settings.queue_transport == "streams":
        return Streams(settings.streams_address)
    return RabbitMQ(settings.rabbitmq_address)
