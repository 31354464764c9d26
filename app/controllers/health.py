from litestar import Controller, Response, get
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.controllers.dependencies import Health
from app.schemas.health import Liveness, Readiness


class HealthController(Controller):
    tags = ["health"]

    @get("/health/live", summary="The process answers", sync_to_thread=False)
    def live(self) -> Liveness:
        return Liveness()

    @get("/health/ready", summary="The parts, and whether requests can be served")
    async def ready(self, health: Health) -> Response[Readiness]:
        readiness = await health.readiness()
        return Response(readiness, status_code=200 if readiness.status == "ok" else 503)

    @get("/metrics", include_in_schema=False, sync_to_thread=False)
    def metrics(self) -> Response[bytes]:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
