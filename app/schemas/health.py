from typing import Annotated, Literal

from pydantic import Field

from app.schemas.types import View

PartStatus = Literal["ok", "degraded", "down"]


class Liveness(View):
    status: Annotated[Literal["ok"], Field(description="the process answers")] = "ok"


class Readiness(View):
    """The service is ready when PostgreSQL answers; the other parts may be degraded meanwhile."""

    status: Annotated[
        Literal["ok", "unavailable"], Field(description="whether requests can be served")
    ]
    parts: Annotated[
        dict[str, PartStatus],
        Field(
            examples=[{"postgresql": "ok", "redis": "ok", "rabbitmq": "ok"}],
            description="each server and queue that is watched, and how it is",
        ),
    ]
