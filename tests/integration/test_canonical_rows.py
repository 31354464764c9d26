"""A row's entity tag is a digest of its JSON: reads and writes must produce the same bytes."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select

from app.container import Container
from app.models.products import Product
from app.models.users import User
from app.schemas.products import ProductRead
from app.schemas.types import View
from app.schemas.users import UserRead
from app.services.products import PRODUCT
from app.services.users import USER

TEXTS = [
    '"\\\b\f\n\r\t/', "\x01\x1f\x7f\x80\x9f", "é ß € 日本 🍵 \u2028\u2029\ufeff\uffff", "</script>", "",
    "e\u0301", "\\u0041", "x" * 5000,
]  # fmt: skip
MOMENTS = [
    datetime(2025, 12, 16, 12, 50, tzinfo=UTC),
    datetime(2025, 12, 16, 12, 50, 0, 89033, tzinfo=UTC),
    datetime(2025, 12, 16, 12, 50, 0, 500000, tzinfo=UTC),
    datetime(1000, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1850, 1, 1, 1, 2, 3, tzinfo=timezone(timedelta(hours=5, minutes=30))),
]
PRICES = ["0", "0.01", "0.10", "19.90", "1000", "9999999999.99"]


async def test_reading_a_row_gives_the_bytes_that_its_schema_writes(container: Container) -> None:
    users: list[dict[str, Any]] = [
        {"username": f"{n}{text[:9]}", "email": f"{n}{text[:9]}", "description": text}
        for n, text in enumerate(TEXTS)
    ] + [
        {"username": f"t{n}", "email": f"t{n}", "created_at": moment, "updated_at": moment}
        for n, moment in enumerate(MOMENTS)
    ]
    products: list[dict[str, Any]] = [
        {"name": text, "description": text, "sku": f"{n}{text[:9]}", "price": Decimal(n),
         "stock_quantity": 10**9 * n}
        for n, text in enumerate(TEXTS)
    ] + [
        {"name": "x", "price": Decimal(PRICES[n]), "stock_quantity": 0, "created_at": moment,
         "updated_at": moment}
        for n, moment in enumerate(MOMENTS)
    ]  # fmt: skip
    async with container.database.transaction(5) as connection:
        for row in users:
            await connection.execute(insert(User).values(row))
        for row in products:
            await connection.execute(insert(Product).values(row))
        await connection.commit()
    await _compare(container, User, UserRead, container.caches[USER].read)
    await _compare(container, Product, ProductRead, container.caches[PRODUCT].read)


async def _compare(
    container: Container,
    table: type[User] | type[Product],
    view: type[View],
    read: Callable[[int], Awaitable[bytes]],
) -> None:
    async with container.database.autocommit(5) as connection:
        rows = (await connection.execute(select(table))).all()
    assert len(rows) == len(TEXTS) + len(MOMENTS)
    for row in rows:
        assert await read(row.id) == view.model_validate(row).model_dump_json().encode()
