from typing import Any
from urllib.parse import urlencode

from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.response import Redirect

from app.queues import Queue
from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.rest.idempotency import idempotent
from app.rest.pages import PAGE_ERRORS, page, page_or_json
from app.rest.parameters import ConsumedQueue, Count, LetterId, MessageIdQuery
from app.rest.policies import policy
from app.rest.requests import JsonRequest
from app.rest.responses import ETAG, VARY, json_response
from app.schemas.dead_letters import DeadLetterDetail, DeadLetterList, DeadLetterQueues
from app.services.dead_letters import DeadLetterService

# The broker has 7 s of it.
_RETRY_SECONDS = 10


class DeadLetterController(Controller):
    """Messages that can never be applied."""

    path = "/dead-letters"
    tags = ["dead_letters"]
    exception_handlers = PAGE_ERRORS

    @get(
        "/",
        summary="How many dead letters each queue has, as JSON or as a page",
        responses=error_responses(),
        response_headers=[VARY],
    )
    async def count(
        self, request: JsonRequest, dead_letters: Injected[DeadLetterService]
    ) -> Response[DeadLetterQueues]:
        """Only queues that the service consumes have dead letters."""
        return page_or_json(request, "dead_letter_queues.html", await dead_letters.count())

    @get(
        "/{queue:str}",
        summary="The oldest dead letters of a queue, as JSON or as a page",
        responses=error_responses(422),
        response_headers=[VARY],
    )
    async def list(
        self,
        request: JsonRequest,
        dead_letters: Injected[DeadLetterService],
        queue: ConsumedQueue,
        count: Count = 10,
    ) -> Response[DeadLetterList]:
        """Messages that can never be applied, and why."""
        found = await dead_letters.list(Queue(queue), count)
        return page_or_json(request, "dead_letters.html", found, queue=queue)

    @get(
        "/{queue:str}/{letter_id:str}",
        summary="One dead letter: its properties, headers and body, as JSON or as a page",
        responses=error_responses(404, 422),
        response_headers=[VARY],
    )
    async def read(
        self,
        request: JsonRequest,
        dead_letters: Injected[DeadLetterService],
        queue: ConsumedQueue,
        letter_id: LetterId,
    ) -> Response[DeadLetterDetail]:
        """With the properties and headers of its sender."""
        found = await dead_letters.read(Queue(queue), letter_id)
        return page_or_json(request, "dead_letter.html", found)

    @delete(
        "/{queue:str}/{letter_id:str}",
        summary="Drop a dead letter",
        responses=error_responses(404, 422),
    )
    async def drop(
        self, dead_letters: Injected[DeadLetterService], queue: ConsumedQueue, letter_id: LetterId
    ) -> None:
        """For good: nobody can bring it back."""
        await dead_letters.drop(Queue(queue), letter_id)

    @post(
        "/{queue:str}/{letter_id:str}/retry",
        summary="Send a dead letter to its queue again",
        description="What becomes of it, /messages/{message_id} tells.",
        status_code=200,
        opt={"deadline": _RETRY_SECONDS},
        responses=error_responses(404, 409, 415, 422),
        response_headers=[ETAG],
    )
    @idempotent()
    async def retry(
        self, state: State, queue: ConsumedQueue, letter_id: LetterId
    ) -> Response[DeadLetterDetail]:
        # Not injected: Litestar would resolve it at the same time as the unit of work.
        dead_letters: DeadLetterService = state.container.dead_letters
        return json_response(await dead_letters.retry(Queue(queue), letter_id))


class DeadLetterPageController(Controller):
    """What a browser does in place of the API's POST and DELETE: it asks, is sent on, and so does
    nothing twice when a page is loaded again. Pages for people, so not in the API's document."""

    path = "/dead-letters/{queue:str}/{letter_id:str}"
    include_in_schema = False
    exception_handlers = PAGE_ERRORS

    @get(["/confirm-retry", "/confirm-drop"])
    async def ask(
        self,
        request: Request[Any, Any, Any],
        dead_letters: Injected[DeadLetterService],
        queue: ConsumedQueue,
        letter_id: LetterId,
    ) -> Response[Any]:
        letter = await dead_letters.read(Queue(queue), letter_id)
        return page(request, "dead_letter_confirm.html", policy(forms="'self'"), letter=letter)

    @post("/confirm-retry")
    async def retry(
        self, dead_letters: Injected[DeadLetterService], queue: ConsumedQueue, letter_id: LetterId
    ) -> Redirect:
        sent = await dead_letters.retry(Queue(queue), letter_id)
        query = urlencode({"id": sent.message_id}, errors="backslashreplace")
        return Redirect(f"../{sent.id}/retried?{query}", status_code=303)

    @get("/retried")
    async def retried(
        self,
        request: Request[Any, Any, Any],
        dead_letters: Injected[DeadLetterService],
        queue: ConsumedQueue,
        letter_id: LetterId,
        id: MessageIdQuery = None,
    ) -> Response[Any]:
        found = await dead_letters.retried(Queue(queue), letter_id, id or "")
        return page(request, "dead_letter_retried.html", found=found, queue=queue, message_id=id)

    @post("/confirm-drop")
    async def drop(
        self, dead_letters: Injected[DeadLetterService], queue: ConsumedQueue, letter_id: LetterId
    ) -> Redirect:
        await dead_letters.drop(Queue(queue), letter_id)
        return Redirect("dropped", status_code=303)

    @get("/dropped")
    async def dropped(
        self, request: Request[Any, Any, Any], queue: ConsumedQueue, letter_id: LetterId
    ) -> Response[Any]:
        return page(request, "dead_letter_dropped.html", queue=queue, letter_id=letter_id)
