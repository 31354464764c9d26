from litestar import Controller, Response, delete, get, post
from litestar.datastructures import State

from app.queues import Queue
from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.rest.idempotency import idempotent
from app.rest.parameters import ConsumedQueue, Count, LetterId
from app.rest.responses import ETAG, json_response
from app.schemas.dead_letters import DeadLetterDetail, DeadLetterList
from app.services.dead_letters import DeadLetterService

# The broker has 7 s of it.
_RETRY_SECONDS = 10


class DeadLetterController(Controller):
    """Messages that can never be applied."""

    path = "/dead-letters/{queue:str}"
    tags = ["dead_letters"]

    @get("/", summary="The oldest dead letters of a queue", responses=error_responses(422))
    async def list(
        self, dead_letters: Injected[DeadLetterService], queue: ConsumedQueue, count: Count = 10
    ) -> DeadLetterList:
        """Messages that can never be applied, and why."""
        return await dead_letters.list(Queue(queue), count)

    @get(
        "/{letter_id:str}",
        summary="One dead letter: its properties, headers and body",
        responses=error_responses(404, 422),
    )
    async def read(
        self, dead_letters: Injected[DeadLetterService], queue: ConsumedQueue, letter_id: LetterId
    ) -> DeadLetterDetail:
        """With the properties and headers of its sender."""
        return await dead_letters.read(Queue(queue), letter_id)

    @delete("/{letter_id:str}", summary="Drop a dead letter", responses=error_responses(404, 422))
    async def drop(
        self, dead_letters: Injected[DeadLetterService], queue: ConsumedQueue, letter_id: LetterId
    ) -> None:
        """For good: nobody can bring it back."""
        await dead_letters.drop(Queue(queue), letter_id)

    @post(
        "/{letter_id:str}/retry",
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
