"""Orders and stock on PostgreSQL."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from app.container import Container
from app.errors import IllegalStep, NotFound, OutOfStock
from app.schemas.orders import OrderCreate, OrderStatus
from app.schemas.products import ProductUpdate
from harness.databases import connected, waiting_for_locks
from harness.dependencies import Dependencies
from harness.invariants import broken_rules, check_invariants
from harness.shop import Shop
from harness.waiting import eventually


@pytest.fixture(autouse=True)
async def _invariants(database_url: str) -> AsyncIterator[None]:
    yield
    await check_invariants(database_url)


@pytest.fixture
async def containers(dependencies: Dependencies) -> AsyncIterator[list[Container]]:
    """Four containers, as four processes would have, with 40 connections together."""
    async with AsyncExitStack() as stack:
        opened = [Container.open(dependencies.settings()) for _ in range(4)]
        yield [await stack.enter_async_context(one) for one in opened]


async def test_one_short_line_rejects_the_whole_order(shop: Shop, database_url: str) -> None:
    enough, short = await shop.product(stock=10), await shop.product(stock=2)
    with pytest.raises(OutOfStock) as rejected:
        await shop.order((enough, 1), (short, 3))
    assert rejected.value.facts == {"short": [{"product_id": short, "wanted": 3, "in_stock": 2}]}
    assert (await shop.stock(enough), await shop.stock(short)) == (10, 2)
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM orders") == 0


async def test_a_rejected_order_lists_every_product_that_is_short(shop: Shop) -> None:
    products = [await shop.product(stock=stock) for stock in (0, 5, 1, 2)]
    with pytest.raises(OutOfStock) as rejected:
        await shop.order(*((product_id, 2) for product_id in reversed(products)))
    assert rejected.value.facts["short"] == [
        {"product_id": products[0], "wanted": 2, "in_stock": 0},
        {"product_id": products[2], "wanted": 2, "in_stock": 1},
    ]


async def test_lines_of_one_product_are_summed_before_they_are_checked(shop: Shop) -> None:
    product_id = await shop.product(stock=5)
    with pytest.raises(OutOfStock) as rejected:
        await shop.order((product_id, 3), (product_id, 3))
    assert rejected.value.facts["short"] == [{"product_id": product_id, "wanted": 6, "in_stock": 5}]
    order = await shop.order((product_id, 3), (product_id, 2))
    assert [(item.product_id, item.quantity) for item in order.items] == [(product_id, 5)]
    assert await shop.stock(product_id) == 0


async def test_a_line_keeps_the_price_that_the_product_had(
    shop: Shop, container: Container
) -> None:
    product_id = await shop.product(price="19.90")
    order = await shop.order((product_id, 2))
    async with container.unit_of_work() as uow:
        await uow.products.update(product_id, ProductUpdate.model_validate({"price": "25"}))
    async with container.reading() as uow:
        read = await uow.orders.read(order.id)
    assert read == order
    assert str(read.items[0].unit_price) == "19.90"
    assert str(read.total_price) == "39.80"


async def test_an_unknown_customer_is_reported_before_missing_stock(shop: Shop) -> None:
    product_id = await shop.product(stock=0)
    stranger = await shop.user()
    with pytest.raises(NotFound, match=f"address {shop.address_id} of user {stranger}"):
        await shop.order((product_id, 1), user_id=stranger)


async def test_every_legal_step_and_no_other(shop: Shop) -> None:
    product_id = await shop.product()
    legal = {
        (OrderStatus.PENDING, OrderStatus.PROCESSING),
        (OrderStatus.PENDING, OrderStatus.CANCELLED),
        (OrderStatus.PROCESSING, OrderStatus.SHIPPED),
        (OrderStatus.PROCESSING, OrderStatus.CANCELLED),
        (OrderStatus.SHIPPED, OrderStatus.DELIVERED),
    }
    steps_to = {
        OrderStatus.PENDING: [],
        OrderStatus.PROCESSING: [OrderStatus.PROCESSING],
        OrderStatus.SHIPPED: [OrderStatus.PROCESSING, OrderStatus.SHIPPED],
        OrderStatus.DELIVERED: [
            OrderStatus.PROCESSING,
            OrderStatus.SHIPPED,
            OrderStatus.DELIVERED,
        ],
        OrderStatus.CANCELLED: [OrderStatus.CANCELLED],
    }
    found = set()
    for start, steps in steps_to.items():
        for target in OrderStatus:
            order = await shop.order((product_id, 1))
            await shop.change_status(order.id, *steps)
            try:
                await shop.change_status(order.id, target)
            except IllegalStep as rejected:
                assert rejected.facts == {"status": start}
            else:
                found.add((start, target))
    assert found == legal


@pytest.mark.parametrize("steps", [[], [OrderStatus.PROCESSING]])
async def test_a_cancellation_restocks_what_was_ordered(
    steps: list[OrderStatus], shop: Shop
) -> None:
    first, second = await shop.product(stock=10), await shop.product(stock=4)
    order = await shop.order((first, 3), (second, 4))
    await shop.change_status(order.id, *steps, OrderStatus.CANCELLED)
    with pytest.raises(IllegalStep):
        await shop.change_status(order.id, OrderStatus.CANCELLED)
    assert (await shop.stock(first), await shop.stock(second)) == (10, 4)


async def test_cancellations_at_the_same_moment_restock_once(
    shop: Shop, containers: list[Container]
) -> None:
    product_id = await shop.product(stock=10)
    order = await shop.order((product_id, 4))

    async def cancel(container: Container) -> None:
        async with container.unit_of_work() as uow:
            await uow.orders.change_status(order.id, OrderStatus.CANCELLED)

    ends = await asyncio.gather(*map(cancel, containers * 2), return_exceptions=True)
    assert Counter(map(type, ends)) == {type(None): 1, IllegalStep: 7}
    assert await shop.stock(product_id) == 10


async def test_orders_that_name_products_in_opposite_order_do_not_deadlock(
    shop: Shop, containers: list[Container]
) -> None:
    products = [await shop.product(stock=1000) for _ in range(10)]

    async def buy(container: Container, number: int) -> None:
        lines = [(product_id, 1) for product_id in products]
        body = OrderCreate.model_validate(shop.order_body(*lines[:: 1 if number % 2 else -1]))
        for _ in range(5):
            async with container.unit_of_work(deadline=60) as uow:  # each waits for all others
                await uow.orders.place(body)

    await asyncio.gather(*(buy(containers[number % 4], number) for number in range(32)))
    assert [await shop.stock(product_id) for product_id in products] == [1000 - 32 * 5] * 10


async def test_an_order_that_waits_for_new_stock_gets_it(shop: Shop, database_url: str) -> None:
    """The order began when there was no stock: without a lock it would see the old row."""
    product_id = await shop.product(stock=0)
    async with connected(database_url) as connection, connection.transaction():
        await connection.execute("UPDATE products SET stock_quantity = 5 WHERE id = $1", product_id)
        await connection.execute(
            "INSERT INTO stock_movements (product_id, reason, quantity) "
            "VALUES ($1, 'adjustment', 5)",
            product_id,
        )
        waiting = asyncio.create_task(shop.order((product_id, 2)))
        await eventually(lambda: waiting_for_locks(database_url))
    await waiting
    assert await shop.stock(product_id) == 3


async def test_a_hundred_pieces_go_to_a_hundred_of_500_buyers(
    shop: Shop, containers: list[Container]
) -> None:
    product_id = await shop.product(stock=100)
    body = OrderCreate.model_validate(shop.order_body((product_id, 1)))
    accepted: Counter[bool] = Counter()

    async def buyers(container: Container, count: int) -> None:
        for _ in range(count):
            try:
                async with container.unit_of_work(deadline=60) as uow:
                    await uow.orders.place(body)
            except OutOfStock:
                accepted[False] += 1
            else:
                accepted[True] += 1

    await asyncio.gather(*(buyers(container, 25) for container in containers * 5))
    assert accepted == {True: 100, False: 400}
    assert await shop.stock(product_id) == 0


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("UPDATE products SET stock_quantity = 9", "the ledger adds up to the stock"),
        ("DELETE FROM order_items", "every order has items"),
        (
            "UPDATE orders SET status = 'cancelled'",
            "the orders and their cancellations are in the ledger",
        ),
        (
            "INSERT INTO stock_movements (product_id, order_id, reason, quantity) "
            "SELECT product_id, order_id, reason, 0 FROM stock_movements WHERE reason = 'order'",
            "an order takes stock once and returns it at most once",
        ),
        (
            "INSERT INTO reports (report_at, order_id, count_product) "
            "SELECT now(), id, 99 FROM orders",
            "a report row counts the pieces of its order",
        ),
    ],
    ids=lambda value: value.replace(" ", "-") if value.islower() else "",
)
async def test_the_invariants_notice_damage(
    damage: str, rule: str, shop: Shop, database_url: str
) -> None:
    order = await shop.order((await shop.product(stock=10), 2))
    assert order.id and not await broken_rules(database_url)
    async with connected(database_url) as connection:
        await connection.execute(damage)
        assert rule in await broken_rules(database_url)
        await connection.execute("TRUNCATE products, orders CASCADE")


async def test_the_largest_order_and_stock_can_be_read_and_written_back(
    client: httpx.AsyncClient, shop: Shop
) -> None:
    """A total of 16 digits, and a stock that a cancellation has lifted."""
    document = (await client.get("/schema/openapi.json")).json()
    pattern = document["components"]["schemas"]["OrderDetail"]["properties"]["total_price"][
        "pattern"
    ]
    product_id = await shop.product(stock=1_000_000, price="9999999999.99")
    placed = await client.post("/orders", json=shop.order_body((product_id, 1_000_000)))
    assert re.fullmatch(pattern, placed.json()["total_price"])
    path = f"/products/{product_id}"
    await client.put(path, json={"stock_quantity": 1_000_000_000})
    await client.put(f"/orders/{placed.json()['id']}", json={"status": "cancelled"})
    stock = (await client.get(path)).json()["stock_quantity"]
    assert stock == 1_001_000_000
    assert (await client.put(path, json={"stock_quantity": stock})).status_code == 200
