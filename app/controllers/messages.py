from litestar import Controller, get

from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.rest.parameters import MessageId, MessageIdQuery
from app.schemas.messages import MessageRead
from app.services.messages import MessageService


class MessageController(Controller):
    """What became of the messages in the queues."""

    path = "/messages"
    tags = ["messages"]

    @get("/", summary="What became of a message with any id", responses=error_responses(404, 422))
    async def find(
        self, messages: Injected[MessageService], id: MessageIdQuery = None
    ) -> MessageRead:
        return await messages.read(id or "")

    # `path`, because an id may contain slashes. Litestar puts another one in front.
    @get(
        "/{message_id:path}",
        summary="What became of a message",
        responses=error_responses(404, 422),
    )
    async def read(self, messages: Injected[MessageService], message_id: MessageId) -> MessageRead:
        return await messages.read(message_id.removeprefix("/"))
