from typing import Annotated

from litestar import Controller, get, post, put
from litestar.params import QueryParameter

from app.controllers.dependencies import Orders
from app.controllers.errors import documented
from app.controllers.parameters import Count, Page, PathId, QueryId
from app.schemas.orders import OrderCreate, OrderDetail, OrderList, OrderStatus, OrderUpdate

StatusFilter = Annotated[OrderStatus | None, QueryParameter()]


class OrderController(Controller):
    path = "/orders"
    tags = ["orders"]

    @get(summary="A page of orders", responses=documented(422))
    async def list(
        self,
        orders: Orders,
        user_id: QueryId = None,
        status: StatusFilter = None,
        count: Count = 10,
        page: Page = 1,
    ) -> OrderList:
        return await orders.list(user_id, status, count, page)

    @get("/{order_id:int}", summary="One order with its items", responses=documented(404, 422))
    async def read(self, orders: Orders, order_id: PathId) -> OrderDetail:
        return await orders.read(order_id)

    @post(
        summary="Place an order: all of it or nothing",
        responses=documented(400, 404, 409, 413, 415, 422),
    )
    async def create(self, orders: Orders, data: OrderCreate) -> OrderDetail:
        return await orders.place(data)

    @put(
        "/{order_id:int}",
        summary="Take an order to its next status",
        description="pending → processing → shipped → delivered; pending or processing → cancelled, "
        "which gives the stock back.",
        responses=documented(400, 404, 409, 413, 415, 422),
    )
    async def update(self, orders: Orders, order_id: PathId, data: OrderUpdate) -> OrderDetail:
        return await orders.change_status(order_id, data.status)
