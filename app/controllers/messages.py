from litestar import Controller, get

from app.controllers.dependencies import Messages
from app.controllers.errors import documented
from app.controllers.parameters import MessageId
from app.schemas.messages import MessageRead


class MessageController(Controller):
    path = "/messages"
    tags = ["messages"]

    # A `path`, for an id may have slashes in it. Litestar puts one before it.
    @get("/{message_id:path}", summary="What became of a message", responses=documented(404, 422))
    async def read(self, messages: Messages, message_id: MessageId) -> MessageRead:
        return await messages.read(message_id.removeprefix("/"))
