"""The constraints of the database, and the refusals that they become."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from app.container import Container
from app.errors import Duplicate, NotFound, Refusal, StillNeeded
from app.schemas.addresses import AddressCreate
from app.schemas.pages import PageRequest
from app.schemas.products import ProductCreate, ProductUpdate
from app.schemas.users import UserCreate, UserUpdate
from app.unit_of_work import UnitOfWork
from harness.databases import connected
from harness.shop import Shop

ROWS = """
INSERT INTO users (username, email) VALUES ('Jane', 'Jane@example.com');
INSERT INTO addresses (user_id, street, city, country) VALUES (1, 's', 'c', 'c');
INSERT INTO products (sku, name, price, stock_quantity) VALUES ('TEA', 'tea', 1, 5);
INSERT INTO orders (user_id, delivery_address_id, external_id) VALUES (1, 1, 'e');
INSERT INTO order_items VALUES (1, 1, 1, 1);
INSERT INTO reports (report_at, order_id, count_product) VALUES ('2025-12-16', 1, 1);
"""
VIOLATIONS = [
    ("uq_users_username", "INSERT INTO users (username, email) VALUES ('jANE', 'x')"),
    ("uq_users_email", "INSERT INTO users (username, email) VALUES ('x', 'jane@EXAMPLE.com')"),
    (
        "uq_products_sku",
        "INSERT INTO products (sku, name, price, stock_quantity) VALUES ('TEA', 't', 1, 1)",
    ),
    ("ck_products_price", "UPDATE products SET price = -0.01"),
    ("ck_products_stock_quantity", "UPDATE products SET stock_quantity = -1"),
    (
        "uq_orders_external_id",
        "INSERT INTO orders (user_id, delivery_address_id, external_id) VALUES (1, 1, 'e')",
    ),
    ("ck_orders_status", "UPDATE orders SET status = 'lost'"),
    ("ck_order_items_quantity", "UPDATE order_items SET quantity = 0"),
    ("ck_order_items_unit_price", "UPDATE order_items SET unit_price = -1"),
    ("pk_order_items", "INSERT INTO order_items VALUES (1, 1, 2, 1)"),
    (
        "uq_reports_report_at_order_id",
        "INSERT INTO reports (report_at, order_id, count_product) VALUES ('2025-12-16', 1, 2)",
    ),
    ("ck_reports_count_product", "UPDATE reports SET count_product = 0"),
    ("ck_installation_one_row", "INSERT INTO installation (id) VALUES (2)"),
    ("pk_installation", "INSERT INTO installation (id) VALUES (1)"),
    (
        "ck_messages_status",
        "INSERT INTO messages (message_id, queue, status) VALUES ('a', 'order', 'lost')",
    ),
    (
        "ck_stock_movements_reason",
        "INSERT INTO stock_movements (product_id, reason, quantity) VALUES (1, 'theft', -1)",
    ),
    (
        "fk_addresses_user_id",
        "INSERT INTO addresses (user_id, street, city, country) VALUES (9, 's', 'c', 'c')",
    ),
    ("fk_orders_user_id", "UPDATE orders SET user_id = 9"),
    ("fk_orders_user_id", "DELETE FROM users"),
    ("fk_orders_delivery_address_id", "UPDATE orders SET delivery_address_id = 9"),
    ("fk_order_items_order_id", "INSERT INTO order_items VALUES (9, 1, 1, 1)"),
    ("fk_order_items_product_id", "INSERT INTO order_items VALUES (1, 9, 1, 1)"),
    ("fk_order_items_product_id", "DELETE FROM products"),
    ("fk_reports_order_id", "UPDATE reports SET order_id = 9"),
    (
        "fk_stock_movements_product_id",
        "INSERT INTO stock_movements (product_id, reason, quantity) VALUES (9, 'opening', 1)",
    ),
    (
        "fk_stock_movements_order_id",
        "INSERT INTO stock_movements (product_id, order_id, reason, quantity) "
        "VALUES (1, 9, 'order', 1)",
    ),
]


@pytest.mark.parametrize(
    ("constraint", "statement"), VIOLATIONS, ids=[name for name, _ in VIOLATIONS]
)
async def test_the_constraint_rejects_the_statement(
    constraint: str, statement: str, database_url: str
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(ROWS)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
            await connection.execute(statement)
    assert caught.value.constraint_name == constraint


async def test_several_products_may_be_without_a_sku(shop: Shop) -> None:
    assert await shop.product() != await shop.product()


async def create_a_user_with_a_taken_username(uow: UnitOfWork, _: int) -> None:
    await uow.users.create(UserCreate(username="JANE", email="new@example.com"))


async def create_a_user_with_a_taken_email(uow: UnitOfWork, _: int) -> None:
    await uow.users.create(UserCreate(username="new", email="JANE@example.com"))


async def change_an_email_to_a_taken_one(uow: UnitOfWork, user_id: int) -> None:
    await uow.users.update(user_id, UserUpdate(email="Jane@EXAMPLE.com"))


async def create_a_product_with_a_taken_sku(uow: UnitOfWork, _: int) -> None:
    fields = {"sku": "TEA", "name": "tea", "price": 1, "stock_quantity": 1}
    await uow.products.create(ProductCreate.model_validate(fields))


async def create_an_address_of_an_unknown_user(uow: UnitOfWork, _: int) -> None:
    await uow.addresses.create(99, AddressCreate(street="s", city="c", country="c"))


async def delete_a_user_with_orders(uow: UnitOfWork, user_id: int) -> None:
    await uow.users.delete(user_id)


async def delete_an_address_with_orders(uow: UnitOfWork, _: int) -> None:
    await uow.addresses.delete(1)


async def delete_a_product_with_orders(uow: UnitOfWork, _: int) -> None:
    await uow.products.delete(1)


async def change_an_unknown_product(uow: UnitOfWork, _: int) -> None:
    await uow.products.update(99, ProductUpdate())


@pytest.mark.parametrize(
    ("act", "refusal", "detail"),
    [
        (create_a_user_with_a_taken_username, Duplicate, "this username is already taken"),
        (create_a_user_with_a_taken_email, Duplicate, "this email is already taken"),
        (change_an_email_to_a_taken_one, Duplicate, "this email is already taken"),
        (create_a_product_with_a_taken_sku, Duplicate, "this sku is already taken"),
        (create_an_address_of_an_unknown_user, NotFound, "user 99 does not exist"),
        (delete_a_user_with_orders, StillNeeded, "orders still need this user"),
        (delete_an_address_with_orders, StillNeeded, "orders still need this address"),
        (delete_a_product_with_orders, StillNeeded, "orders still need this product"),
        (change_an_unknown_product, NotFound, "product 99 does not exist"),
    ],
)
async def test_a_violated_constraint_is_a_refusal_that_names_the_rule(
    act: Callable[[UnitOfWork, int], Awaitable[None]],
    refusal: type[Refusal],
    detail: str,
    container: Container,
    shop: Shop,
) -> None:
    await shop.order((await shop.product(sku="TEA"), 1))
    async with container.unit_of_work() as uow:
        await uow.users.create(UserCreate(username="jane", email="jane@example.com"))
    with pytest.raises(refusal, match=detail):
        async with container.unit_of_work() as uow:
            await act(uow, shop.user_id)


async def test_fifty_sign_ups_with_one_email_at_once(container: Container) -> None:
    ends: Counter[bool] = Counter()
    turns = asyncio.Semaphore(10)  # as many as there are connections

    async def sign_up(number: int) -> None:
        email = "Jane@example.com" if number % 2 else "jane@example.com"
        try:
            async with turns, container.unit_of_work() as uow:
                await uow.users.create(UserCreate(username=f"jane{number}", email=email))
        except Duplicate:
            ends[False] += 1
        else:
            ends[True] += 1

    await asyncio.gather(*map(sign_up, range(50)))
    assert ends == {True: 1, False: 49}


async def test_a_users_addresses_go_with_the_user(container: Container, shop: Shop) -> None:
    async with container.unit_of_work() as uow:
        await uow.users.delete(shop.user_id)
    with pytest.raises(NotFound):
        async with container.reading() as uow:
            await uow.addresses.read(shop.address_id)


async def test_pages_are_in_order_of_the_ids(container: Container, shop: Shop) -> None:
    first = [await shop.product() for _ in range(5)]
    async with container.unit_of_work() as uow:
        await uow.products.update(first[0], ProductUpdate.model_validate({"price": 2}))
    async with container.reading() as uow:
        pages = [await uow.products.list(PageRequest(2, page)) for page in (1, 2, 3, 4)]
    assert [[product.id for product in page.products] for page in pages] == [
        first[:2],
        first[2:4],
        first[4:],
        [],
    ]
    assert {page.total for page in pages} == {5}
