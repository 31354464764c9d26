import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from app.errors import Unavailable
from app.schemas.health import PartStatus, Readiness

log = structlog.get_logger(__name__)

_REMEMBER_SECONDS = 1.0

Check = Callable[[], Awaitable[None]]
# Its name, what it is if the check fails, and the check.
Part = tuple[str, PartStatus, Check]


class HealthService:
    """Asks the parts at most once a second, however often it is asked itself. A part with several
    checks is as bad as the worst of them. `reasons` has those that are not well, and why."""

    def __init__(
        self, parts: Sequence[Part], refused_queues: Callable[[], Mapping[str, str]]
    ) -> None:
        """`refused_queues`: those that the last check has found, and why. Each is a part too."""
        self._parts = parts
        self._refused_queues = refused_queues
        self._known_until = 0.0
        self._known = Readiness(status="unavailable", parts={})
        self.reasons: Mapping[str, str] = {}
        self._asking = asyncio.Lock()
        self.closing = False

    async def readiness(self) -> Readiness:
        if self.closing:
            return Readiness(status="unavailable", parts={})
        async with self._asking:
            if time.monotonic() >= self._known_until:
                self._known = await self._ask()
                self._known_until = time.monotonic() + _REMEMBER_SECONDS
        return self._known

    async def _ask(self) -> Readiness:
        failures = await asyncio.gather(*(_failure_of(check) for _, _, check in self._parts))
        parts: dict[str, PartStatus] = {}
        reasons: dict[str, str] = {}
        for (name, status, _), failure in zip(self._parts, failures, strict=True):
            parts.setdefault(name, "ok")
            if failure is not None and parts[name] != "down":
                parts[name] = status
                reasons[name] = str(failure)
        for queue, reason in self._refused_queues().items():
            parts[f"queue {queue}"] = "degraded"
            reasons[f"queue {queue}"] = reason
        self._tell(reasons)
        down = "down" in parts.values()
        return Readiness(status="unavailable" if down else "ok", parts=parts)

    def _tell(self, reasons: dict[str, str]) -> None:
        """Once for each change."""
        for name in sorted({*reasons, *self.reasons}):
            if name not in reasons:
                log.info("well again", part=name)
            elif reasons[name] != self.reasons.get(name):
                log.warning("not well", part=name, reason=reasons[name])
        self.reasons = reasons


async def _failure_of(check: Check) -> Unavailable | None:
    try:
        await check()
    except Unavailable as failure:
        return failure
    return None
