"""`doctor`: what is configured and from where, what answers, what is wrong, and the cure."""

import asyncio
import difflib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, NamedTuple

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.client.errors import CliError
from app.client.stack import running_stack
from app.database import Database
from app.database_connections import explain_login
from app.errors import Unavailable
from app.messaging.opening import open_broker
from app.metrics import Found
from app.queues import TASKS
from app.redis_connections import connection_options
from app.services.calendar import Calendar
from app.services.diagnoses import diagnosed
from app.services.health import HealthService
from app.services.monitor import Monitor
from app.settings import NAMES, Settings, names_in_env_file, origins

_SECONDS = 2
_REDIS_LIMITS: dict[str, Any] = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS}
_NOTHING = (
    "nothing is configured, and no `python main.py` runs with this DATA_DIR: start it, or set "
    "DATABASE_URL or DB_HOST in .env"
)


class Part(NamedTuple):
    """`variables` begin the names of its settings. `examine` finds what is wrong with it."""

    name: str
    place: str
    variables: tuple[str, ...]
    examine: Callable[[Settings], AsyncIterator[str]]


async def run(settings: Settings) -> None:
    """Raises SystemExit with 1 if something is wrong."""
    try:
        found = running_stack(settings)
    except CliError as error:
        raise SystemExit(f"doctor: {error}") from None
    if not (found.has_database or found.has_redis or found.has_rabbitmq):
        raise SystemExit(f"doctor: {_NOTHING}")
    parts = list(_parts(found))
    _show_configuration(parts, settings, found)
    wrongs = await asyncio.gather(*(_all(part.examine(found)) for part in parts))
    figures = await _figures(found) if found.has_database else {}
    print("\nWhat answers")
    for part, wrong in zip(parts, wrongs, strict=True):
        print(f"  {part.name:<11} {'no, or not as it should' if wrong else 'yes'}")
    lines = [*(line for wrong in wrongs for line in wrong), *diagnosed(figures)]
    _show("What could be better", list(_advice(found)))
    _show("What is wrong, and what to do", lines)
    if lines:
        raise SystemExit(1)
    print("\nNothing is wrong.")


def _show(title: str, lines: list[str]) -> None:
    if lines:
        print(f"\n{title}", *(f"  - {line}" for line in lines), sep="\n")


def _parts(settings: Settings) -> Iterator[Part]:
    """Those that are configured, and what the configured ones need beside them."""
    postgresql = settings.postgresql_address
    place = f"{postgresql.place}, database {postgresql.database}, user {postgresql.user}"
    if settings.has_database:
        yield Part("PostgreSQL", place, ("database_url", "db_", "postgres_"), _examine_postgresql)
    if settings.has_database or settings.has_redis:
        yield Part("Redis", settings.cache_address.url, ("redis_",), _examine_redis)
    if settings.queue_transport == "streams":
        place = settings.streams_address.url
        yield Part("queues", place, ("queue_transport", "redis_"), _examine_queues)
    elif settings.has_database or settings.has_rabbitmq:
        yield Part("queues", settings.rabbitmq_address.place, ("rabbitmq_",), _examine_queues)
    yield Part("API", settings.api_url, ("api_", "host", "port"), _examine_api)


async def _all(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


def _show_configuration(parts: list[Part], settings: Settings, found: Settings) -> None:
    where = origins()
    print("What is configured")
    for part in parts:
        told = [
            f"{', '.join(sorted(names))} in {origin}"
            for origin, names in _by_origin(where, part.variables).items()
        ]
        otherwise = "by default" if found is settings else "found: the service runs"
        print(f"  {part.name:<11} {part.place}  ({'; '.join(told) or otherwise})")
    shown = tuple(name for part in parts for name in part.variables)
    for name, origin in sorted(where.items()):
        if not name.startswith(shown):
            # A URL may have a password in it.
            value = f"={getattr(settings, name)}" if Settings.model_fields[name].repr else ""
            print(f"  {name.upper()}{value}  ({origin})")


def _by_origin(where: Mapping[str, str], beginnings: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, origin in where.items():
        if name.startswith(beginnings):
            found.setdefault(origin, []).append(name.upper())
    return found


async def _examine_postgresql(settings: Settings) -> AsyncIterator[str]:
    address = settings.postgresql_address
    database = Database(address, pool_size=1)
    try:
        await database.check_login()
        await database.ping()
    except Unavailable as error:
        cause = error.__cause__
        yield cause and explain_login(cause, address) or f"PostgreSQL at {address.place}: {error}"
    finally:
        await database.close()


async def _examine_redis(settings: Settings) -> AsyncIterator[str]:
    address = settings.cache_address
    client: Redis = Redis.from_url(**connection_options(address), **_REDIS_LIMITS)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        yield (
            f"Redis at {address.url} does not answer: start it, or see REDIS_URL, REDIS_HOST, "
            f"REDIS_PORT and REDIS_PASSWORD; until then all is read from PostgreSQL ({error})"
        )
    finally:
        await client.aclose()


async def _examine_queues(settings: Settings) -> AsyncIterator[str]:
    broker = open_broker(settings)
    try:
        await broker.ping()
        for line in broker.refused.values():
            yield line
    except Unavailable as error:
        yield str(error)
    finally:
        await broker.close()


async def _figures(settings: Settings) -> Found:
    database = Database(settings.postgresql_address, pool_size=1)
    broker = open_broker(settings)
    calendar, parts = Calendar(settings.report_timezone), HealthService([], dict)
    monitor = Monitor(database, broker, calendar, parts, settings.data_dir.absolute())
    try:
        return await monitor.look(*([TASKS] if settings.queue_transport == "rabbitmq" else []))
    finally:
        await broker.close()
        await database.close()


async def _examine_api(settings: Settings) -> AsyncIterator[str]:
    url = settings.api_url.rstrip("/")
    try:
        async with httpx.AsyncClient(timeout=_SECONDS, trust_env=False) as client:
            answer = (await client.get(f"{url}/health/ready")).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        start = "`python -m app web`" if settings.has_database else "`python -m app up`"
        yield f"the API does not answer at {url}: start {start}, or see API_URL ({error!r})"
        return
    if not isinstance(answer, dict) or "parts" not in answer:
        yield f"what answers at {url} is not this service: see API_URL, or stop what uses that port"
        return
    for part, status in answer["parts"].items():
        if status != "ok":
            yield f"the API says that {part} is {status}: its log says why (`not well`)"


def _advice(settings: Settings) -> Iterator[str]:
    if settings.has_database:
        for name in settings.default_passwords:
            yield f"{name} has its default value, which is public: set another one in .env"
    known = [name.upper() for name in NAMES]
    for name in names_in_env_file():
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if near and name not in known:
            yield f"nothing reads {name} of .env: if you mean {near[0]}, write it so"
