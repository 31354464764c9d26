"""What controllers are given: the services of one request's Work."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ValidationException
from litestar.params import SkipValidation

from app.container import Container
from app.rest.parameters import KEY_PATTERN, IdempotencyKey
from app.rest.responses import json_of
from app.runtime.deadlines import REQUEST_SECONDS
from app.schemas.types import View
from app.services.addresses import AddressService
from app.services.health import HealthService
from app.services.messages import MessageService
from app.services.orders import OrderService
from app.services.products import ProductService
from app.services.reports import ReportService
from app.services.users import UserService
from app.unit_of_work import UnitOfWork

Users = NamedDependency[SkipValidation[UserService]]
Addresses = NamedDependency[SkipValidation[AddressService]]
Products = NamedDependency[SkipValidation[ProductService]]
Orders = NamedDependency[SkipValidation[OrderService]]
Reports = NamedDependency[SkipValidation[ReportService]]
Messages = NamedDependency[SkipValidation[MessageService]]
Health = NamedDependency[SkipValidation[HealthService]]
_UnitOfWork = NamedDependency[SkipValidation[UnitOfWork]]


async def provide_unit_of_work(
    request: Request[None, None, State], state: State
) -> AsyncIterator[UnitOfWork]:
    """The commit follows the handler and precedes the answer. A route may have a `deadline`."""
    container: Container = state.container
    deadline = request.route_handler.opt.get("deadline", REQUEST_SECONDS)
    opening = container.reading if request.method == "GET" else container.unit_of_work
    async with opening(deadline) as uow:
        yield uow


def provide_users(uow: _UnitOfWork) -> UserService:
    return uow.users


def provide_addresses(uow: _UnitOfWork) -> AddressService:
    return uow.addresses


def provide_products(uow: _UnitOfWork) -> ProductService:
    return uow.products


def provide_orders(uow: _UnitOfWork) -> OrderService:
    return uow.orders


def provide_reports(uow: _UnitOfWork) -> ReportService:
    return uow.reports


def provide_messages(uow: _UnitOfWork) -> MessageService:
    return uow.messages


def provide_health(state: State) -> HealthService:
    container: Container = state.container
    return container.health


class Once:
    """Runs an effect, unless a POST with this Idempotency-Key has: then its answer comes again.

    It hands the UnitOfWork on, so that no handler asks for a service beside it: for two dependencies that
    do not need each other Litestar makes two tasks, a tenth of what a POST costs."""

    def __init__(self, uow: UnitOfWork, request: Request[Any, Any, Any], key: str | None) -> None:
        self._uow = uow
        self._request = request
        self._key = key

    async def __call__(self, effect: Callable[[UnitOfWork], Awaitable[View]]) -> bytes:
        uow, key = self._uow, self._key
        if key is None:
            return json_of(await effect(uow))
        if not re.fullmatch(KEY_PATTERN, key):
            raise ValidationException(extra=[{"key": "idempotency_key"}])
        request = self._request
        target = f"{request.method} {request.url.path}?{request.url.query}\n"
        fingerprint = sha256(target.encode() + await request.body()).digest()
        return await uow.idempotency.once(key, fingerprint, lambda: effect(uow))


ExactlyOnce = NamedDependency[SkipValidation[Once]]


def provide_once(
    request: Request[Any, Any, Any], uow: _UnitOfWork, idempotency_key: IdempotencyKey = None
) -> Once:
    return Once(uow, request, idempotency_key)


DEPENDENCIES = {
    "uow": Provide(provide_unit_of_work),
    "users": Provide(provide_users, sync_to_thread=False),
    "addresses": Provide(provide_addresses, sync_to_thread=False),
    "products": Provide(provide_products, sync_to_thread=False),
    "orders": Provide(provide_orders, sync_to_thread=False),
    "reports": Provide(provide_reports, sync_to_thread=False),
    "messages": Provide(provide_messages, sync_to_thread=False),
    "once": Provide(provide_once, sync_to_thread=False),
    "health": Provide(provide_health, sync_to_thread=False),
}
