from litestar import Controller, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from prometheus_client import CONTENT_TYPE_LATEST

from app.metrics import exposition
from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.schemas.health import Liveness, Readiness
from app.services.health import HealthService

_EXAMPLE = Readiness(
    status="unavailable", parts={"postgresql": "down", "redis": "ok", "rabbitmq": "ok"}
)
_NOT_READY = ResponseSpec(
    Readiness, generate_examples=False, examples=[Example(value=_EXAMPLE.model_dump())]
)

_FOREIGN_HOST = error_responses()[400]


class HealthController(Controller):
    """Whether the service is well."""

    tags = ["health"]
    security = [{}]

    @get(
        "/health/live",
        summary="The process answers",
        responses={400: _FOREIGN_HOST},
        sync_to_thread=False,
    )
    def live(self) -> Liveness:
        """Asks no server."""
        return Liveness()

    @get(
        "/health/ready",
        summary="The parts, and whether requests can be served",
        responses={400: _FOREIGN_HOST, 503: _NOT_READY},
    )
    async def ready(self, health: Injected[HealthService]) -> Response[Readiness]:
        """503 if PostgreSQL does not answer. The other parts may be degraded or down meanwhile."""
        readiness = await health.readiness()
        return Response(readiness, status_code=200 if readiness.status == "ok" else 503)

    @get("/metrics", include_in_schema=False, sync_to_thread=False)
    def metrics(self) -> Response[bytes]:
        return Response(exposition(), media_type=CONTENT_TYPE_LATEST)
