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

from app.container import REQUEST_SECONDS, Container, Work
from app.controllers.answers import json_of
from app.controllers.parameters import KEY_PATTERN, IdempotencyKey
from app.schemas.types import View
from app.services.addresses import AddressService
from app.services.health import HealthService
from app.services.messages import MessageService
from app.services.orders import OrderService
from app.services.products import ProductService
from app.services.reads import ReadService
from app.services.reports import ReportService
from app.services.users import UserService

Users = NamedDependency[SkipValidation[UserService]]
Addresses = NamedDependency[SkipValidation[AddressService]]
Products = NamedDependency[SkipValidation[ProductService]]
Orders = NamedDependency[SkipValidation[OrderService]]
Reads = NamedDependency[SkipValidation[ReadService]]
Reports = NamedDependency[SkipValidation[ReportService]]
Messages = NamedDependency[SkipValidation[MessageService]]
Health = NamedDependency[SkipValidation[HealthService]]
_Work = NamedDependency[SkipValidation[Work]]


async def provide_work(request: Request[None, None, State], state: State) -> AsyncIterator[Work]:
    """The commit follows the handler and precedes the answer. A route may have a `deadline`."""
    container: Container = state.container
    deadline = request.route_handler.opt.get("deadline", REQUEST_SECONDS)
    opening = container.reading if request.method == "GET" else container.work
    async with opening(deadline) as work:
        yield work


def provide_users(work: _Work) -> UserService:
    return work.users


def provide_addresses(work: _Work) -> AddressService:
    return work.addresses


def provide_products(work: _Work) -> ProductService:
    return work.products


def provide_orders(work: _Work) -> OrderService:
    return work.orders


def provide_reports(work: _Work) -> ReportService:
    return work.reports


def provide_messages(work: _Work) -> MessageService:
    return work.messages


def provide_health(state: State) -> HealthService:
    container: Container = state.container
    return container.health


def provide_user_reads(state: State) -> ReadService:
    container: Container = state.container
    return container.user_reads


def provide_product_reads(state: State) -> ReadService:
    container: Container = state.container
    return container.product_reads


class Once:
    """Runs an effect, unless a POST with this Idempotency-Key has: then its answer comes again.

    It hands the Work on, so that no handler asks for a service beside it: for two dependencies that
    do not need each other Litestar makes two tasks, a tenth of what a POST costs."""

    def __init__(self, work: Work, request: Request[Any, Any, Any], key: str | None) -> None:
        self._work = work
        self._request = request
        self._key = key

    async def __call__(self, effect: Callable[[Work], Awaitable[View]]) -> bytes:
        work, key = self._work, self._key
        if key is None:
            return json_of(await effect(work))
        if not re.fullmatch(KEY_PATTERN, key):
            raise ValidationException(extra=[{"key": "idempotency_key"}])
        request = self._request
        target = f"{request.method} {request.url.path}?{request.url.query}\n"
        fingerprint = sha256(target.encode() + await request.body()).digest()
        return await work.idempotency.once(key, fingerprint, lambda: effect(work))


ExactlyOnce = NamedDependency[SkipValidation[Once]]


def provide_once(
    request: Request[Any, Any, Any], work: _Work, idempotency_key: IdempotencyKey = None
) -> Once:
    return Once(work, request, idempotency_key)


DEPENDENCIES = {
    "work": Provide(provide_work),
    "users": Provide(provide_users, sync_to_thread=False),
    "user_reads": Provide(provide_user_reads, sync_to_thread=False),
    "addresses": Provide(provide_addresses, sync_to_thread=False),
    "products": Provide(provide_products, sync_to_thread=False),
    "product_reads": Provide(provide_product_reads, sync_to_thread=False),
    "orders": Provide(provide_orders, sync_to_thread=False),
    "reports": Provide(provide_reports, sync_to_thread=False),
    "messages": Provide(provide_messages, sync_to_thread=False),
    "once": Provide(provide_once, sync_to_thread=False),
    "health": Provide(provide_health, sync_to_thread=False),
}
