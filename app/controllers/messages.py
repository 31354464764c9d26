from typing import Annotated

from litestar import Controller, get
from litestar.params import PathParameter

from app.controllers.dependencies import Messages
from app.controllers.errors import documented
from app.schemas.messages import MessageRead

MessageId = Annotated[str, PathParameter(min_length=1, max_length=255, pattern="^[^\\x00]+$")]


class MessageController(Controller):
    path = "/messages"
    tags = ["messages"]

    @get("/{message_id:str}", summary="What became of a message", responses=documented(404, 422))
    async def read(self, messages: Messages, message_id: MessageId) -> MessageRead:
        return await messages.read(message_id)
