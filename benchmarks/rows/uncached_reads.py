"""GET /users/{id} of many users, none of them in the cache."""

from contextlib import AsyncExitStack

from redis.asyncio import Redis

from app.embedded.ports import free_port
from benchmarks import data
from benchmarks.lab import CPU, Lab, Web
from benchmarks.load import Load
from benchmarks.results import Comparison, Figures, Line, RowResult, Turn, at_least, compare

OURS, WITHOUT_REDIS = "this service, filling the cache", "this service, Redis away"
FASTAPI, BATCHED = "FastAPI, AsyncSession.get", "bare ASGI, batched ids through asyncpg"
_USERS = 100_000


async def measure(lab: Lab) -> RowResult:
    count = lab.size.rows(_USERS, least=5000)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url = await enter(lab.database(data.users(count)))
        unused_port = str(free_port())
        turns: dict[str, Turn] = {
            OURS: _turn(lab, await enter(lab.web(url)), "/users", count),
            WITHOUT_REDIS: _turn(
                lab, await enter(lab.web(url, REDIS_PORT=unused_port)), "/users", count
            ),
            FASTAPI: _turn(
                lab, await enter(lab.peer("fastapi_app", url)), "/uncached/users", count
            ),
            BATCHED: _turn(lab, await enter(lab.peer("asgi", url)), "/batched", count),
        }
        comparison = await compare("GET /users/{id}, not cached", turns, lab.size.rounds)
    remarks = [
        f"{count:,} users, each read once in a burst; 64 connections.",
        "On a miss this service also takes a lease and fills the cache under it; its peers do not.",
    ]
    return RowResult(_lines(comparison), [comparison], remarks)


def _turn(lab: Lab, web: Web, path: str, count: int) -> Turn:
    async def take() -> Figures:
        await _delete_cached_users(lab)
        return await lab.burst(Load(path + "/{n}", count=count), web)

    return take


async def _delete_cached_users(lab: Lab) -> None:
    """Not with FLUSHDB: the service would notice the loss and bypass its cache for a while."""
    async with Redis(port=lab.valkey.port) as redis:
        async for key in redis.scan_iter("user:*", count=1000):
            await redis.unlink(key)


def _lines(comparison: Comparison) -> list[Line]:
    what = "GET /users/{id}, not cached: CPU per request,"
    must, aim = at_least(2), at_least(0.8)
    return [
        Line(f"{what} FastAPI / ours", comparison.ratios(CPU, FASTAPI, OURS), must=must),
        Line(
            f"{what} FastAPI / ours with Redis away",
            comparison.ratios(CPU, FASTAPI, WITHOUT_REDIS),
            must=must,
        ),
        Line(
            f"{what} batched through asyncpg / ours with Redis away",
            comparison.ratios(CPU, BATCHED, WITHOUT_REDIS),
            must=at_least(0.6),
            aim=aim,
        ),
    ]
