"""A dead letter is the whole message, and `dead` acts on any number of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from app import worker
from app.cli import dead
from app.container import Container
from app.queues import Queue
from app.settings import Settings
from harness.queues import QueueClient, Received
from harness.shop import Shop
from harness.waiting import eventually
from tests.integration.conftest import Outcome

pytestmark = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])

PRODUCT = {"sku": "TEA-001", "name": "Tea", "price": "1.00", "stock_quantity": 1}
HEADERS = {"tenant": "north", "x-reason": "my own", "x-original-x-field": "a", "x-trace": "Ж"}


def _sent(message: Received) -> tuple[Any, ...]:
    headers = {name: message.headers.get(name) for name in HEADERS}
    return message.message_id, message.body, message.reply_to, message.correlation_id, headers


async def _bury(queues: QueueClient, container: Container, *ids: str, **properties: Any) -> None:
    async with worker.consuming(container):
        for message_id in ids:
            await queues.send(Queue.PRODUCT, b"{", message_id, **properties)
        await _until_dead(queues, len(ids))


async def _until_dead(queues: QueueClient, count: int) -> None:
    async def all_there() -> bool:
        return await queues.count(Queue.PRODUCT.dead) == count

    await eventually(all_there)


async def test_a_dead_letter_keeps_properties_and_headers_and_a_retry_restores_them(
    queues: QueueClient,
    container: Container,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    headers = HEADERS if not settings.queue_transport == "streams" else HEADERS | {"x-trace": "Z"}
    sent: dict[str, Any] = {"reply_to": "there", "correlation_id": "c-1", "headers": headers}
    await _bury(queues, container, "whole", **sent)
    await dead.run(settings, "show", Queue.PRODUCT, "whole")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("c-1", "there", "north", "my own", "decode"))

    for _ in range(2):  # a retry that dies again is whole too
        await dead.run(settings, "retry", Queue.PRODUCT, "whole")
        assert await queues.count(Queue.PRODUCT.dead) == 0
        again = await queues.take(Queue.PRODUCT)
        assert _sent(again) == ("whole", b"{", "there", "c-1", headers)
        assert not {"x-detail", "x-attempts", "x-original-queue"} & again.headers.keys()
        await _bury(queues, container, "whole", **sent)
    letter = await queues.take(Queue.PRODUCT.dead)
    assert (letter.correlation_id, letter.reply_to) == ("c-1", "there")
    assert (letter.headers["tenant"], letter.headers["x-reason"]) == ("north", "decode")
    assert letter.headers["x-original-x-reason"] == "my own"


async def test_all_letters_of_a_long_queue_are_dropped_listed_and_sent_again(
    queues: QueueClient, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 1100
    for number in range(count):
        await queues.send(Queue.PRODUCT.dead, b"{", f"d{number}")

    async def done(action: str, wanted: str | None = "all") -> list[str]:
        await dead.run(settings, action, Queue.PRODUCT, wanted)
        return capsys.readouterr().out.splitlines()

    listed = await done("list", None)
    assert listed[-1] == "1100 of 1100 in product.dead listed" and len(listed) == count + 2
    assert await queues.count(Queue.PRODUCT.dead) == count
    assert (await done("drop", "7"))[-1] == "1 of 1100 in product.dead dropped"
    assert (await done("drop", "d1099"))[-1] == "1 of 1099 in product.dead dropped"
    assert (await done("retry"))[-1] == "1098 of 1098 in product.dead sent again"
    assert await queues.count(Queue.PRODUCT) == 1098
    assert await queues.count(Queue.PRODUCT.dead) == 0
    first = await queues.take(Queue.PRODUCT)
    assert (first.message_id, first.body) == ("d0", b"{")
    assert (await done("drop"))[-1] == "0 of 0 in product.dead dropped"


async def test_letters_that_die_again_are_not_sent_again_without_an_end(
    queues: QueueClient,
    container: Container,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await _bury(queues, container, "one", "two")
    async with worker.consuming(container):
        await dead.run(settings, "retry", Queue.PRODUCT, "all")
        await _until_dead(queues, 2)
    assert "2 of 2 in product.dead sent again" in capsys.readouterr().out


async def test_a_retry_with_the_same_body_is_applied_and_with_another_it_is_dead(
    queues: QueueClient,
    container: Container,
    settings: Settings,
    outcome: Outcome,
    shop: Shop,
    transport: str,
) -> None:
    product_id = await shop.product(stock=10)
    body = {"product_id": product_id, "price": "2.00"}
    async with worker.consuming(container):
        await queues.send(Queue.PRODUCT_UPDATE, b"{", "mended")
        assert (await outcome("mended"))["status"] == "dead"
        await queues.send(Queue.PRODUCT_UPDATE, body, "mended")
        letter = await queues.take(Queue.PRODUCT_UPDATE.dead)
        await queues.send(Queue.PRODUCT_UPDATE.dead, body, "mended")
        await queues.send(Queue.PRODUCT_UPDATE.dead, letter.body, "mended")
        await dead.run(settings, "retry", Queue.PRODUCT_UPDATE, "all")
        again = await queues.take(Queue.PRODUCT_UPDATE.dead)
        assert (again.body, again.headers["x-reason"]) == (b"{", "decode")
        assert (await outcome("mended"))["status"] == "applied"


async def test_the_broker_is_named_without_its_password(
    settings: Settings, container: Container, capsys: pytest.CaptureFixture[str]
) -> None:
    await dead.run(settings, "list", Queue.ORDER, None)
    first = capsys.readouterr().out.splitlines()[0]
    if settings.queue_transport == "streams":
        assert (
            first
            == f"order.dead on streams at {settings.redis_host}:{settings.redis_port}, database 1"
        )
    else:
        port = settings.rabbitmq_port
        assert first == f"order.dead on RabbitMQ at 127.0.0.1:{port}, vhost local"
        assert "guest" not in first


async def test_dead_wants_a_configuration_or_a_running_service(
    transport: Any, tmp_path: Path
) -> None:
    nothing = Settings(_env_file=None, data_dir=tmp_path, queue_transport=transport)
    with pytest.raises(SystemExit) as caught:
        await dead.run(nothing, "drop", Queue.ORDER, "all")
    variable = "REDIS_HOST" if transport == "streams" else "RABBITMQ_HOST"
    assert variable in str(caught.value) and "\n" not in str(caught.value)


async def test_a_broker_that_is_away_is_one_line(transport: str, settings: Settings) -> None:
    gone = settings.model_copy(update={"rabbitmq_port": 1, "redis_port": 1})
    with pytest.raises(SystemExit) as caught:
        await dead.run(gone, "list", Queue.ORDER, None)
    assert str(caught.value).startswith("dead: ") and "\n" not in str(caught.value)
