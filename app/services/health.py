import asyncio
import time
from collections.abc import Awaitable, Callable

from app.errors import Unavailable
from app.schemas.health import PartStatus, Readiness

_REMEMBER_SECONDS = 1.0

Check = Callable[[], Awaitable[None]]


class HealthService:
    """Asks the parts at most once a second, however often it is asked itself."""

    def __init__(self, postgresql: Check, redis: Check, rabbitmq: Check) -> None:
        self._checks = {"postgresql": postgresql, "redis": redis, "rabbitmq": rabbitmq}
        self._known_until = 0.0
        self._known = Readiness(status="unavailable", parts={})
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
        answers = await asyncio.gather(*map(_answers, self._checks.values()))
        parts: dict[str, PartStatus] = {
            name: "ok" if answer else "degraded"
            for name, answer in zip(self._checks, answers, strict=True)
        }
        if parts["postgresql"] != "ok":
            parts["postgresql"] = "down"
        return Readiness(status="ok" if parts["postgresql"] == "ok" else "unavailable", parts=parts)


async def _answers(check: Check) -> bool:
    try:
        await check()
    except Unavailable:
        return False
    return True
