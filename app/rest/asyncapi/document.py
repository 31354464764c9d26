"""The AsyncAPI document: queues from FastStream, schemas as the OpenAPI document has them, and what
FastStream does not know: properties, replies and examples."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from app.queues import Queue
from app.rest.openapi.document import pydantic_schemas
from app.rest.openapi.examples import Json, example_of
from app.schemas.messages import MessageRead
from app.schemas.reports import ReportMessage

_DESCRIPTION = """\
What may be sent to the service's queues, and what it sends.

All queues are durable, on RabbitMQ's default exchange, and declared without arguments. Bodies are
JSON, of 1 MiB at most. A message is *applied*, *rejected* (the shop says no: out of stock, unknown
user, illegal step) or *dead* (not JSON, or invalid): then it is in `<queue>.dead`, with headers that
say why. `GET /messages/{message_id}` tells which.

A sender may set these properties:

{properties}

In the one-process mode the queues are streams of Valkey, and the properties are among the headers.
"""
# The settings are not shown: the page asks nobody for a key.
_SERVER = "amqp://rabbitmq:5672/local"
_WHERE = "Of docker-compose.yml. RABBITMQ_HOST, RABBITMQ_PORT and RABBITMQ_VHOST name yours."
_REPORTS = "The rows of a day's report, 10,000 in a message at most."
_REPLIES = "The queue that a sender names in `reply_to`."
_OUTCOME = "What became of the message, sent once, when it is settled."

_MESSAGE_ID = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "description": "the sender's own name for the message, which protects from a second effect: "
    "what comes again under the same id changes nothing. Without it, a message that RabbitMQ "
    "delivers twice is dead, since nobody can tell whether it took effect",
    "examples": ["web-1001"],
}
_CORRELATION_ID = {
    "type": "string",
    "description": "whatever the sender wants to find again in the reply",
    "examples": ["7f9c2ba4e88f"],
}
_PROPERTIES: dict[str, Json] = {
    "SentProperties": {
        "message_id": _MESSAGE_ID,
        "reply_to": {
            "type": "string",
            "description": "the queue that gets the outcome. None of the service's own",
            "examples": ["replies"],
        },
        "correlation_id": _CORRELATION_ID,
    },
    "ReplyProperties": {"correlation_id": _CORRELATION_ID},
    "ReportProperties": {
        "message_id": {
            "type": "string",
            "description": "the same whenever this message is sent again",
            "examples": ["report:2025-12-16:1"],
        },
        "report_date": {
            "type": "string",
            "format": "date",
            "description": "the day, in a header: to choose messages without reading them",
            "examples": ["2025-12-16"],
        },
    },
}


class Consumed(NamedTuple):
    """What a queue takes, and what comes of it."""

    schema: type[BaseModel]
    description: str


def document_of(consumed: Mapping[Queue, Consumed]) -> Json:
    document = _generated(consumed)
    components = document["components"]
    ours = pydantic_schemas()
    components["schemas"] = {name: ours[name] for name in sorted(components["schemas"])}
    for name, fields in _PROPERTIES.items():
        components["schemas"][name] = {"type": "object", "properties": fields}
    for kind in ("channels", "operations"):  # FastStream's order is by chance
        document[kind] = {name: document[kind][name] for name in (*Queue, "reply")}
    document["servers"] = {"rabbitmq": document["servers"].pop("development")}
    for channel in document["channels"].values():
        del channel["servers"]  # there is only one
    components["messages"] = dict(sorted(components["messages"].items()))
    _add_replies(document, list(consumed))
    for key, message in components["messages"].items():
        _complete(key.partition(":")[0], message, components["schemas"])
    return document


def _generated(consumed: Mapping[Queue, Consumed]) -> Json:
    """From a broker that never connects. FastStream's part for RabbitMQ is imported here, because
    the one-process mode does without it until somebody reads about the queues."""
    # pylint: disable=import-outside-toplevel
    from faststream.rabbit import RabbitBroker, RabbitQueue
    from faststream.specification import AsyncAPI

    broker = RabbitBroker(_SERVER, specification_url=_SERVER, description=_WHERE)
    kept = []  # the broker alone does not keep its subscribers
    for queue, (schema, description) in consumed.items():
        plain = RabbitQueue(queue.value, durable=True)
        subscriber = broker.subscriber(plain, title=queue.value, description=description)
        kept.append(subscriber(_handler_of(schema)))
    for title, schema, description in (
        (Queue.REPORT.value, ReportMessage, _REPORTS),
        ("reply", MessageRead, _REPLIES),
    ):
        plain = RabbitQueue(title, durable=True)
        broker.publisher(plain, title=title, schema=schema, description=description, persist=True)
    about = AsyncAPI(
        broker, title="Order service: queues", version="1.0.0", description=_description()
    )
    document: Json = about.to_specification().to_jsonable()
    return document


def _description() -> str:
    """The properties are told here too: the page shows those of a message only on a click."""
    fields = _PROPERTIES["SentProperties"].items()
    told = (f"- `{name}`: {rules['description']}." for name, rules in fields)
    return _DESCRIPTION.replace("{properties}", "\n".join(told))


def _handler_of(schema: type[BaseModel]) -> Any:
    async def handle(body: Any) -> None:  # pylint: disable=unused-argument
        """FastStream reads the annotation."""

    handle.__annotations__["body"] = schema
    return handle


def _add_replies(document: Json, queues: list[Queue]) -> None:
    """FastStream takes the sender's queue for one of ours."""
    channel = document["channels"]["reply"]
    channel["address"] = None  # the sender chooses it
    del channel["bindings"], document["operations"]["reply"]
    where = {"location": "$message.header#/reply_to", "description": _REPLIES}
    reply = {"address": where, "channel": {"$ref": "#/channels/reply"}}
    for queue in queues:
        document["operations"][queue]["reply"] = reply


def _complete(name: str, message: Json, schemas: Json) -> None:
    kind = {"report": "Report", "reply": "Reply"}.get(name, "Sent")
    properties = schemas[f"{kind}Properties"]["properties"]
    message["name"] = message["title"] = name
    if "correlation_id" not in properties:
        del message["correlationId"]
    message["headers"] = {"$ref": f"#/components/schemas/{kind}Properties"}
    if name == "reply":
        message["summary"] = _OUTCOME
    message["examples"] = [
        {
            "name": name,
            "headers": {field: rules["examples"][0] for field, rules in properties.items()},
            "payload": example_of(message["payload"], schemas),
        }
    ]
