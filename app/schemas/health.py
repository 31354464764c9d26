from typing import Literal

from app.schemas.types import View

PartStatus = Literal["ok", "degraded", "down"]


class Liveness(View):
    status: Literal["ok"] = "ok"


class Readiness(View):
    """Only PostgreSQL is needed; the other parts may be degraded while the service is ready."""

    status: Literal["ok", "unavailable"]
    parts: dict[str, PartStatus]
