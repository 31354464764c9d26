from litestar import Controller, Response, get, post, put
from litestar.params import JSONBody

from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.rest.etags import parse_if_match
from app.rest.idempotency import LOCATION, idempotent
from app.rest.pages import PAGE_ERRORS, page_or_json
from app.rest.parameters import (
    After,
    Count,
    ExternalId,
    IfMatch,
    IfNoneMatch,
    OrderedBefore,
    OrderedFrom,
    OrderSort,
    Page,
    PathId,
    QueryId,
    StatusFilter,
    moment,
)
from app.rest.requests import JsonRequest
from app.rest.responses import (
    ETAG,
    LINKS,
    VARY,
    json_response,
    not_modified_or,
    page_response,
    to_json,
)
from app.schemas.order_lives import OrderLife
from app.schemas.orders import OrderCreate, OrderDetail, OrderList, OrderUpdate
from app.schemas.pages import PageRequest
from app.services.order_lives import OrderLifeService
from app.services.orders import OrderService


class OrderController(Controller):
    """All or nothing: an order takes its products from the stock."""

    path = "/orders"
    tags = ["orders"]

    @get(summary="A page of orders", responses=error_responses(422), response_headers=[LINKS])
    async def list(
        self,
        request: JsonRequest,
        orders: Injected[OrderService],
        user_id: QueryId = None,
        status: StatusFilter = None,
        external_id: ExternalId = None,
        ordered_from: OrderedFrom = None,
        ordered_before: OrderedBefore = None,
        sort: OrderSort = "id",
        count: Count = 10,
        page: Page = None,
        after: After = None,
    ) -> Response[OrderList]:
        """Without their items. Follow the `next` link to read on."""
        wanted = PageRequest(count, page, after, sort)
        found = await orders.list(
            wanted,
            user_id=user_id,
            status=status,
            external_id=external_id,
            ordered_from=moment("ordered_from", ordered_from),
            ordered_before=moment("ordered_before", ordered_before),
        )
        return page_response(request, wanted, found)

    @get(
        "/{order_id:int}",
        summary="One order with its items",
        responses=error_responses(304, 404, 422),
        response_headers=[ETAG],
    )
    async def read(
        self, orders: Injected[OrderService], order_id: PathId, if_none_match: IfNoneMatch = None
    ) -> Response[OrderDetail]:
        """With the address and the prices as they were when it was placed."""
        return not_modified_or(if_none_match, to_json(await orders.read(order_id)))

    @get(
        "/{order_id:int}/life",
        summary="What became of an order, and why, as JSON or as a page",
        description="What placed it, each status with its time and message, what it took from the "
        "stock, its row in a report, and what to search the log for.",
        responses=error_responses(404, 422),
        response_headers=[VARY],
        exception_handlers=PAGE_ERRORS,
    )
    async def life(
        self, request: JsonRequest, order_lives: Injected[OrderLifeService], order_id: PathId
    ) -> Response[OrderLife]:
        return page_or_json(request, "order_life.html", await order_lives.read(order_id))

    @post(
        summary="Place an order: all of it or nothing",
        responses=error_responses(400, 404, 409, 413, 415, 422),
        response_headers=[ETAG, LOCATION],
    )
    @idempotent(creates="/orders")
    async def create(
        self, orders: Injected[OrderService], data: JSONBody[OrderCreate]
    ) -> Response[OrderDetail]:
        """Takes the products from the stock. 409 if there is too little of one: `short` lists
        which."""
        return json_response(await orders.place(data))

    @put(
        "/{order_id:int}",
        summary="Take an order to its next status",
        responses=error_responses(400, 404, 409, 412, 413, 415, 422),
        response_headers=[ETAG],
    )
    async def update(
        self,
        orders: Injected[OrderService],
        order_id: PathId,
        data: JSONBody[OrderUpdate],
        if_match: IfMatch = None,
    ) -> Response[OrderDetail]:
        """pending → processing → shipped → delivered; pending or processing → cancelled, which
        gives the stock back."""
        return json_response(
            await orders.change_status(order_id, data.status, parse_if_match(if_match))
        )
