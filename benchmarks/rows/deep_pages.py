"""GET /users?count=100: the first, the middle and the last page of a million users, by the page's
number and by a cursor."""

import time
from contextlib import AsyncExitStack

import httpx

from benchmarks import data
from benchmarks.lab import Lab, Web
from benchmarks.load import Load, generate
from benchmarks.results import Comparison, Figures, Line, RowResult, Turn, at_most, compare
from benchmarks.usage import Meter
from harness.databases import connected

_COUNT = 100
_FEW = 1000
FIRST, MIDDLE, LAST = "page 1", "the middle page", "the last page"
BY_CURSOR = "the middle page, by a cursor"
FIRST_OF_FEW = f"page 1 of {_FEW:,} users"
TOTAL, BARE_PAGE = "count(*) alone, with asyncpg", "page 1 alone, with asyncpg"
TIME, WEB, POSTGRES = "ms per request", "server CPU ms", "PostgreSQL CPU ms"
_COUNT_QUERY = "SELECT count(*) FROM users"
_PAGE_QUERY = f"SELECT * FROM users ORDER BY id LIMIT {_COUNT}"


async def measure(lab: Lab) -> RowResult:
    many = lab.size.rows(1_000_000, least=2000)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url = await enter(lab.database(data.users(many)))
        web = await enter(lab.web(url))
        few = await enter(lab.web(await enter(lab.database(data.users(_FEW)))))
        turns = {
            FIRST: _page(lab, web, _path(1)),
            MIDDLE: _page(lab, web, _path(many // _COUNT // 2)),
            BY_CURSOR: _page(lab, web, await _next(web, _path(many // _COUNT // 2 - 1))),
            LAST: _page(lab, web, _path(many // _COUNT)),
            FIRST_OF_FEW: _page(lab, few, _path(1)),
            TOTAL: _statement(url, _COUNT_QUERY),
            BARE_PAGE: _statement(url, _PAGE_QUERY),
        }
        comparison = await compare(f"GET /users?count=100 of {many:,}", turns, lab.size.rounds)
    remarks = ["One connection, one request after another; `total` is exact in every response."]
    return RowResult(_lines(comparison), [comparison], remarks)


def _path(number: int) -> str:
    return f"/users?count={_COUNT}&page={number}"


async def _next(web: Web, path: str) -> str:
    """The path of the page after this one, by its cursor."""
    async with httpx.AsyncClient(base_url=f"http://localhost:{web.ports[0]}") as client:
        response = (await client.get(path)).raise_for_status()
    return response.links["next"]["url"]


def _page(lab: Lab, web: Web, path: str) -> Turn:
    load = Load(path, connections=1)

    async def take() -> Figures:
        servers, postgres = Meter(*web.pids), Meter(lab.postgres.pid)
        responses = await generate(load, web.ports, lab.size.seconds)
        return {
            TIME: responses.seconds / responses.total * 1e3,
            WEB: servers.seconds / responses.total * 1e3,
            POSTGRES: postgres.seconds / responses.total * 1e3,
        }

    return take


def _statement(url: str, query: str) -> Turn:
    """The best of several executions on one connection, since the first one is slower."""

    async def take() -> Figures:
        took = []
        async with connected(url) as connection:
            for _ in range(6):
                began = time.perf_counter()
                await connection.fetch(query)
                took.append(time.perf_counter() - began)
        return {TIME: min(took) * 1e3}

    return take


def _lines(comparison: Comparison) -> list[Line]:
    return [
        Line(
            "time of the last page / page 1", comparison.ratios(TIME, LAST, FIRST), must=at_most(2)
        ),
        Line("time of the middle page / page 1", comparison.ratios(TIME, MIDDLE, FIRST)),
        Line(
            "time of the middle page by a cursor / page 1",
            comparison.ratios(TIME, BY_CURSOR, FIRST),
            must=at_most(3),
            aim=at_most(1.2),
        ),
        Line(
            f"time of page 1 / {FIRST_OF_FEW}",
            comparison.ratios(TIME, FIRST, FIRST_OF_FEW),
            aim=at_most(1.1),
        ),
        Line(
            "time of count(*), which the kept total saves",
            comparison.values(TOTAL, TIME),
            unit="ms",
        ),
    ]
