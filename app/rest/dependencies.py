"""What controllers are given by name: a request's unit of work, and each of its services."""

from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any, TypeVar

from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation

from app.container import Container
from app.rest.asgi.context import PLACE
from app.runtime.deadlines import REQUEST_SECONDS
from app.unit_of_work import UnitOfWork

# For the `opt` of a route whose handler calls a service once: what needs one statement then takes
# one round trip, and a second call that changes something raises RuntimeError.
ONE_CALL = {"is_for_one_call": True}

T = TypeVar("T")
Injected = NamedDependency[SkipValidation[T]]


async def provide_unit_of_work(
    request: Request[None, None, State],
) -> AsyncIterator[UnitOfWork]:
    """Commits after the handler and before the response. A route may set `deadline` (seconds). The
    request gives back its place when the transaction has ended."""
    container: Container = request.app.state.container
    options = request.route_handler.opt
    deadline, place = options.get("deadline", REQUEST_SECONDS), request.scope["state"][PLACE]
    if request.method == "GET":
        opening = container.reading(deadline, place)
    else:
        is_for_one_call = options.get("is_for_one_call", False)
        opening = container.unit_of_work(deadline, place, is_for_one_call=is_for_one_call)
    async with opening as uow:
        yield uow


def _of_unit_of_work(name: str) -> Provide:
    # Needing `uow`, a service comes after it. For two dependencies that do not need each other,
    # Litestar makes two tasks, which cost as much as a tenth of a POST.
    def provide(uow: Injected[UnitOfWork]) -> Any:
        return getattr(uow, name)

    return Provide(provide, sync_to_thread=False)


def _of_container(name: str) -> Provide:
    def provide(state: State) -> Any:
        return getattr(state.container, name)

    return Provide(provide, sync_to_thread=False)


_SERVICES = [name for name, value in vars(UnitOfWork).items() if isinstance(value, cached_property)]
DEPENDENCIES = {
    "uow": Provide(provide_unit_of_work),
    **{name: _of_unit_of_work(name) for name in _SERVICES},
    **{name: _of_container(name) for name in ("health", "dead_letters", "overview")},
}
