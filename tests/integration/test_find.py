"""`python -m app find` knows the names that people hold in their hands."""

from collections.abc import Awaitable, Callable

import pytest

from app import worker
from app.cli import find
from app.container import Container
from app.settings import Settings
from harness.queues import QueueClient
from harness.shop import Shop
from tests.integration.conftest import Outcome

Find = Callable[[str], Awaitable[str]]


@pytest.fixture(name="found")
def _found(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Find:
    async def found(word: str) -> str:
        await find.run(settings, word)
        return capsys.readouterr().out

    return found


async def test_everything_is_found_by_each_of_its_names(
    container: Container, shop: Shop, found: Find
) -> None:
    product_id = await shop.product(sku="TEA-001")
    order = await shop.order((product_id, 2), external_id="web-1001")
    async with container.reading() as uow:
        user = (await uow.users.list(find.SOME)).users[0]

    order_line = f"order {order.id} (by external_id): pending, of user {user.id}, "
    assert (await found("web-1001")).startswith(order_line)
    product_line = (
        f"product {product_id} (by sku): 'Green tea', 98 in stock at 10.00, sku TEA-001\n"
    )
    assert await found("TEA-001") == product_line
    user_line = f"user {user.id} (by {{}}): {user.username}, {user.email}\n"
    assert await found(user.username.upper()) == user_line.format("username")
    assert await found(user.email.upper()) == user_line.format("e-mail")
    by_id = await found("1")
    assert [line.partition(":")[0] for line in by_id.splitlines()] == [
        "order 1 (by id)",
        "product 1 (by id)",
        "user 1 (by id)",
    ]


async def test_a_message_is_found_with_what_became_of_it(
    container: Container, shop: Shop, queues: QueueClient, outcome: Outcome, found: Find
) -> None:
    product_id = await shop.product(stock=1)
    async with worker.consuming(container):
        for message_id, quantity in (("fits", 1), ("short", 5)):
            await queues.send("order", shop.order_body((product_id, quantity)), message_id)
            await outcome(message_id)
    assert "message fits of queue order, first seen" in await found("fits")
    assert (await found("fits")).endswith(", applied: order 1\n")
    assert "rejected: out-of-stock, not enough stock: product" in await found("short")


@pytest.mark.parametrize(
    "word", ["nothing", "99999999999999999999999", "²", "\udcff", "a'; --", ""]
)
async def test_what_is_nowhere_is_said_in_one_line(found: Find, word: str) -> None:
    with pytest.raises(SystemExit, match="is no id or external_id of an order"):
        await found(word)


async def test_a_database_that_is_away_is_said_in_one_line(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://127.0.0.1:9/nothing"})
    with pytest.raises(SystemExit, match="^find: the database"):
        await find.run(away, "1")
