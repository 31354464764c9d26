"""GET /users/{id} of many users, none of them in the cache."""

from contextlib import AsyncExitStack

from redis.asyncio import Redis

from app.embedded.ports import free_port
from benchmarks import data
from benchmarks.lab import CPU, Lab, Web
from benchmarks.load import Load
from benchmarks.results import Contest, Figures, Line, Outcome, Turn, at_least, hold

OURS, WITHOUT_REDIS = "this service, and it fills the cache", "this service, Redis away"
FASTAPI, GATHERED = "FastAPI, AsyncSession.get", "bare ASGI, gathered ids through asyncpg"
_USERS = 100_000


async def measure(lab: Lab) -> Outcome:
    count = lab.size.rows(_USERS, least=5000)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url = await enter(lab.database(data.users(count)))
        nowhere = str(free_port())
        turns: dict[str, Turn] = {
            OURS: _turn(lab, await enter(lab.web(url)), "/users", count),
            WITHOUT_REDIS: _turn(
                lab, await enter(lab.web(url, REDIS_PORT=nowhere)), "/users", count
            ),
            FASTAPI: _turn(
                lab, await enter(lab.peer("fastapi_app", url)), "/uncached/users", count
            ),
            GATHERED: _turn(lab, await enter(lab.peer("asgi", url)), "/gathered", count),
        }
        contest = await hold("GET /users/{id}, not cached", turns, lab.size.rounds)
    remarks = [
        f"{count:,} users, each asked for once in a burst; 64 connections.",
        "On a miss this service also takes a lease and fills the cache under it; its peers do not.",
    ]
    return Outcome(_lines(contest), [contest], remarks)


def _turn(lab: Lab, web: Web, path: str, count: int) -> Turn:
    async def take() -> Figures:
        await _forget_users(lab)
        return await lab.burst(Load(path + "/{n}", count=count), web)

    return take


async def _forget_users(lab: Lab) -> None:
    """Not by FLUSHDB: the service would notice the loss, and not use its cache for a while."""
    async with Redis(port=lab.valkey.port) as redis:
        async for key in redis.scan_iter("user:*", count=1000):
            await redis.unlink(key)


def _lines(contest: Contest) -> list[Line]:
    what = "GET /users/{id}, not cached: CPU of a request,"
    must, aim = at_least(2), at_least(0.8)
    return [
        Line(f"{what} FastAPI to ours", contest.ratios(CPU, FASTAPI, OURS), must=must),
        Line(
            f"{what} FastAPI to ours with Redis away",
            contest.ratios(CPU, FASTAPI, WITHOUT_REDIS),
            must=must,
        ),
        Line(
            f"{what} gathered through asyncpg to ours with Redis away",
            contest.ratios(CPU, GATHERED, WITHOUT_REDIS),
            aim=aim,
        ),
    ]
