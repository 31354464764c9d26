from litestar import Controller, Response, get

from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.rest.parameters import (
    After,
    Count,
    MessageId,
    MessageIdQuery,
    MessageQueue,
    MessageStatusFilter,
    Reason,
    SeenBefore,
    SeenFrom,
    moment,
)
from app.rest.requests import JsonRequest
from app.rest.responses import NEXT, next_response
from app.schemas.messages import MessageFilters, MessageList, MessageRead
from app.services.messages import MessageService


class MessageController(Controller):
    """What became of the messages in the queues."""

    path = "/messages"
    tags = ["messages"]

    @get(
        "/",
        summary="Messages, the newest first",
        responses=error_responses(422),
        response_headers=[NEXT],
    )
    async def list(
        self,
        request: JsonRequest,
        messages: Injected[MessageService],
        id: MessageIdQuery = None,
        queue: MessageQueue = None,
        status: MessageStatusFilter = None,
        reason: Reason = None,
        seen_from: SeenFrom = None,
        seen_before: SeenBefore = None,
        count: Count = 10,
        after: After = None,
    ) -> Response[MessageList]:
        """Follow the `next` link to read on. `id` finds those ids too that make no path, such as
        `a//b`."""
        wanted = MessageFilters(
            id,
            queue,
            status,
            reason,
            moment("seen_from", seen_from),
            moment("seen_before", seen_before),
        )
        return next_response(request, await messages.list(wanted, count, after))

    # `path`, because an id may contain slashes. Litestar puts another one in front.
    @get(
        "/{message_id:path}",
        summary="What became of a message",
        responses=error_responses(404, 422),
    )
    async def read(self, messages: Injected[MessageService], message_id: MessageId) -> MessageRead:
        """Applied, rejected or dead, and why."""
        return await messages.read(message_id.removeprefix("/"))
