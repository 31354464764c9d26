"""POST /users, PUT /users/{id} and PUT /products/{id}."""

import itertools
from contextlib import AsyncExitStack

from benchmarks import data
from benchmarks.lab import CPU, RATE, Lab, Web
from benchmarks.load import Load
from benchmarks.results import Comparison, Figures, Line, RowResult, Turn, at_least, compare

OURS, FASTAPI = "this service", "FastAPI + SQLAlchemy"
_CONNECTIONS = 32
_NEW = '{"username": "new{n}", "email": "new{n}@example.com", "description": "Designer"}'
_CHANGED = '{"description": "Designer {n}"}'
_ROWS = 1000
_GOALS = {"PUT /users/{id}": (at_least(2), at_least(2.5))}
# Each burst takes user names from a million numbers of its own, more than it can use.
_FIRST_NUMBERS = itertools.count(1_000_000, 1_000_000)


async def measure(lab: Lab) -> RowResult:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        fill = data.shop(products=_ROWS)
        url, peer_url = await enter(lab.database(fill)), await enter(lab.database(fill))
        webs = {
            OURS: await enter(lab.web(url)),
            FASTAPI: await enter(lab.peer("fastapi_app", peer_url)),
        }
        creation = {name: _creation(lab, web) for name, web in webs.items()}
        created = await compare("POST /users", creation, lab.size.rounds)
        changed = []
        for path in ("/users", "/products"):
            change = {name: _change(lab, web, path) for name, web in webs.items()}
            changed.append(await compare(f"PUT {path}/{{id}}", change, lab.size.rounds))
    remarks = [
        f"{_CONNECTIONS} connections. Service and peer have a database each on one PostgreSQL, "
        "which writes every commit to the disk before it confirms it.",
        "After the commit of a PUT the peer deletes the cached user, or sets the cached product, "
        "once and without a guarantee.",
    ]
    comparisons = [created, *changed]
    return RowResult(
        [line for comparison in comparisons for line in _lines(comparison)], comparisons, remarks
    )


def _creation(lab: Lab, web: Web) -> Turn:
    async def take() -> Figures:
        first = next(_FIRST_NUMBERS)
        load = Load("/users", "POST", _NEW, first, count=1_000_000, connections=_CONNECTIONS)
        return await lab.burst(load, web)

    return take


def _change(lab: Lab, web: Web, path: str) -> Turn:
    load = Load(path + "/{n}", "PUT", _CHANGED, count=_ROWS, connections=_CONNECTIONS)
    return lambda: lab.burst(load, web)


def _lines(comparison: Comparison) -> list[Line]:
    what = f"{comparison.title}: CPU per request, {FASTAPI} / ours"
    values = comparison.ratios(CPU, FASTAPI, OURS)
    rates = comparison.ratios(RATE, OURS, FASTAPI)
    return [
        Line(what, values, *_GOALS.get(comparison.title, (at_least(1.5), at_least(2)))),
        Line(f"{comparison.title}: requests/s, ours / {FASTAPI}", rates),
    ]
