"""What controllers are given: the services of one request's Work."""

from collections.abc import AsyncIterator
from typing import Annotated, TypeVar, cast

from litestar import Request, Response
from litestar.datastructures import State
from litestar.di import Provide
from litestar.params import Dependency

from app.container import Container, Work
from app.services.addresses import AddressService
from app.services.health import HealthService
from app.services.messages import MessageService
from app.services.orders import OrderService
from app.services.products import ProductService
from app.services.reports import ReportService
from app.services.users import UserService

T = TypeVar("T")

Users = Annotated[UserService, Dependency(skip_validation=True)]
Addresses = Annotated[AddressService, Dependency(skip_validation=True)]
Products = Annotated[ProductService, Dependency(skip_validation=True)]
Orders = Annotated[OrderService, Dependency(skip_validation=True)]
Reports = Annotated[ReportService, Dependency(skip_validation=True)]
Messages = Annotated[MessageService, Dependency(skip_validation=True)]
Health = Annotated[HealthService, Dependency(skip_validation=True)]
_Work = Annotated[Work, Dependency(skip_validation=True)]


async def provide_work(request: Request[None, None, State], state: State) -> AsyncIterator[Work]:
    """The commit follows the handler and precedes the answer."""
    container: Container = state.container
    async with container.reading() if request.method == "GET" else container.work() as work:
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


DEPENDENCIES = {
    "work": Provide(provide_work),
    "users": Provide(provide_users, sync_to_thread=False),
    "addresses": Provide(provide_addresses, sync_to_thread=False),
    "products": Provide(provide_products, sync_to_thread=False),
    "orders": Provide(provide_orders, sync_to_thread=False),
    "reports": Provide(provide_reports, sync_to_thread=False),
    "messages": Provide(provide_messages, sync_to_thread=False),
    "health": Provide(provide_health, sync_to_thread=False),
}


def as_json_of(_: type[T], body: bytes) -> Response[T]:
    """An answer that is JSON already: Litestar encodes it no second time, and documents it as T."""
    return cast(Response[T], Response(body, media_type="application/json"))
