"""Checks the cache of users and products on a running stack: misses, hits, updates, TTLs and times.

A script, not a pytest module: `uv run python test_redis_cache.py`. It deletes what it creates.
"""

import json
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from redis import Redis
from redis.exceptions import RedisError

from app.client.errors import CliError
from app.client.stack import running_stack
from app.redis_connections import connection_options
from app.settings import Settings, load_settings

USER_TTL = 3600
PRODUCT_TTL = 600
TTL_TOLERANCE = 10
SETTLE_SECONDS = 2.0
TIMED_READS = 200


class Row:
    """A user or product of this script, with its value in the API and in Redis."""

    def __init__(
        self, api: httpx.Client, redis: Redis, prefix: str, path: str, body: dict[str, Any]
    ) -> None:
        self._api = api
        self._redis = redis
        made = api.post(path, json=body).raise_for_status().json()
        self._path = f"{path}/{made['id']}"
        self.key = f"{prefix}{path.strip('/').removesuffix('s')}:{made['id']}"

    def read(self) -> Any:
        return self._api.get(self._path).raise_for_status().json()

    def update(self, **fields: Any) -> Any:
        return self._api.put(self._path, json=fields).raise_for_status().json()

    def delete(self) -> None:
        self._api.delete(self._path).raise_for_status()

    def cached(self) -> Any:
        value = self._redis.get(self.key)
        return json.loads(value) if value else None

    def forget(self) -> None:
        self._redis.delete(self.key)

    def mark(self) -> Any:
        """Change the cached value: a response with the mark can only come from Redis."""
        marked = self.cached() | {"description": "changed in Redis"}
        self._redis.set(self.key, json.dumps(marked, separators=(",", ":")), keepttl=True)
        return marked

    def ttl(self) -> int:
        return self._redis.ttl(self.key)


class Checks:
    def __init__(self) -> None:
        self.failed = 0

    def check(self, what: str, passed: bool) -> None:
        self.failed += not passed
        print(f"  {'✓' if passed else '✗'} {what}")

    def soon(self, what: str, holds: Callable[[], bool]) -> None:
        """Retry for 2 s: right after a write the API may bypass the cache, to be safe."""
        end = time.monotonic() + SETTLE_SECONDS
        while not (passed := holds()) and time.monotonic() < end:
            time.sleep(0.05)
        self.check(what, passed)


def check_reads(checks: Checks, row: Row, ttl: int) -> None:
    checks.check(f"cache miss: {row.key} is not in Redis before the first read", not row.cached())
    checks.soon(
        "... and is there afterwards, equal to the response", lambda: row.read() == row.cached()
    )
    lasts = row.ttl()
    checks.check(f"TTL is {ttl} s (now {lasts})", ttl - TTL_TOLERANCE <= lasts <= ttl)
    if row.cached():
        marked = row.mark()
        checks.soon("cache hit: the next response comes from Redis", lambda: row.read() == marked)


def check_user(checks: Checks, row: Row) -> None:
    changed = row.update(description="changed by PUT")
    checks.check("an update deletes the cached value", row.cached() is None)
    checks.check("... the next read returns the new value", row.read() == changed)
    checks.soon("... which is then cached again", lambda: row.read() == changed == row.cached())


def check_product(checks: Checks, row: Row) -> None:
    changed = row.update(price="12.50", stock_quantity=7)
    checks.check("an update puts the new value into the cache at once", row.cached() == changed)
    lasts = row.ttl()
    checks.check(f"... with a new TTL (now {lasts})", PRODUCT_TTL - TTL_TOLERANCE <= lasts)
    checks.check("... and the next read returns it", row.read() == changed)


def show_times(row: Row) -> None:
    """Printed, not checked: they depend on the machine."""
    row.read()
    for what, prepare in (("from the cache", lambda: None), ("without it", row.forget)):
        times = [_milliseconds(row, prepare) for _ in range(TIMED_READS)]
        p99 = statistics.quantiles(times, n=100)[98]
        print(f"    {what:15} median {statistics.median(times):.2f} ms, p99 {p99:.2f} ms")


def _milliseconds(row: Row, prepare: Callable[[], None]) -> float:
    prepare()
    began = time.perf_counter()
    row.read()
    return (time.perf_counter() - began) * 1000


@contextmanager
def temporary(row: Row) -> Iterator[Row]:
    try:
        yield row
    finally:
        row.delete()


def run(api: httpx.Client, redis: Redis, prefix: str) -> bool:
    redis.ping()
    api.get("/users").raise_for_status()
    checks = Checks()
    name = f"cache-test-{secrets.token_hex(4)}"
    print("Users")
    user = {"username": name, "email": f"{name}@example.com"}
    with temporary(Row(api, redis, prefix, "/users", user)) as row:
        check_reads(checks, row, USER_TTL)
        check_user(checks, row)
        show_times(row)
    print("Products")
    product = {"sku": name, "name": "Cache test", "price": "9.90", "stock_quantity": 5}
    with temporary(Row(api, redis, prefix, "/products", product)) as row:
        check_reads(checks, row, PRODUCT_TTL)
        check_product(checks, row)
        show_times(row)
    hint = (
        f"{checks.failed} failed; does the API use the Redis of REDIS_HOST, REDIS_PORT, REDIS_DB?"
    )
    print(hint if checks.failed else "All checks passed")
    return not checks.failed


def connect(settings: Settings) -> tuple[httpx.Client, Redis]:
    key = settings.api_key
    headers = {"X-API-Key": key.get_secret_value()} if key else None
    api = httpx.Client(base_url=settings.api_url, headers=headers, timeout=5, trust_env=False)
    redis = Redis.from_url(
        **connection_options(settings.cache_address, blocking=True),
        decode_responses=settings.redis_decode_responses,
        socket_timeout=2,
    )
    return api, redis


def main() -> None:
    try:
        settings = running_stack(load_settings())
        api, redis = connect(settings)
        with api, redis:
            passed = run(api, redis, settings.redis_prefix)
    except CliError as error:
        sys.exit(f"test_redis_cache: {error}")
    except RedisError as error:
        url = settings.cache_address.url
        sys.exit(
            f"test_redis_cache: Redis at {url}: {error}; see REDIS_URL, REDIS_HOST, REDIS_PORT"
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        first = str(error).partition("\n")[0]
        sys.exit(f"test_redis_cache: the API at {settings.api_url}: {first}; see API_URL, API_KEY")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
