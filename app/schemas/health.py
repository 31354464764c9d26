from typing import Annotated, Literal

from pydantic import Field

from app.schemas.types import View

PartStatus = Literal["ok", "degraded", "down"]


class Liveness(View):
    status: Literal["ok"] = "ok"


class Readiness(View):
    """The service is ready when PostgreSQL answers; the other parts may be degraded meanwhile."""

    status: Literal["ok", "unavailable"]
    parts: Annotated[
        dict[str, PartStatus],
        Field(examples=[{"postgresql": "ok", "redis": "ok", "rabbitmq": "ok"}]),
    ]
