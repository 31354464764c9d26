"""What producer.py reads, sends and waits for, without servers."""

import json
import os
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from app.client import sender
from app.client.errors import CliError
from app.client.files import OrderRow, Survey, rows_of
from app.client.load import message_id_of
from app.client.sender import Sender
from app.client.stack import running_stack
from app.errors import Unavailable
from app.messaging.broker import Outgoing
from app.queues import Queue
from app.schemas.users import UserCreate
from app.settings import Settings

USER = '{"username": "ann", "email": "ann@example.com"}\n'
ADDRESS = '{"username": "ann", "street": "S", "city": "C", "country": "D"}\n'
PRODUCT = '{"sku": "A", "name": "Tea", "price": "1.00", "stock_quantity": 5}\n'
ORDER = '{"external_id": "1", "username": "Ann", "items": [{"sku": "A", "quantity": 1}]}\n'
SETTLED = {
    "status": "applied",
    "queue": "order",
    "result_id": 7,
    "first_seen_at": "2026-01-01T00:00:00",
}


class Consumer:
    """Stands in for the broker and the worker: replies to the oldest message once `capacity` of
    them wait."""

    def __init__(self, capacity: int) -> None:
        self.published: list[str] = []
        self.refuse = 0
        self.most_waiting = 0
        self.sender: Sender | None = None
        self._capacity = capacity
        self._waiting: deque[str] = deque()

    async def publish(self, message: Outgoing) -> None:
        if self.refuse:
            self.refuse -= 1
            raise Unavailable("away")
        self.published.append(message.message_id)
        self._waiting.append(message.message_id)
        self.most_waiting = max(self.most_waiting, len(self._waiting))
        if len(self._waiting) >= self._capacity:
            self.reply(self._waiting.popleft())

    def reply(self, message_id: str, **changes: Any) -> None:
        assert self.sender is not None
        self.sender.receive(json.dumps(SETTLED | {"message_id": message_id} | changes).encode())


class Api:
    """Stands in for GET /messages/{message_id}."""

    def __init__(self, *statuses: str) -> None:
        self.asked = 0
        self._statuses = deque(statuses)

    async def get(self, path: str) -> dict[str, Any]:
        self.asked += 1
        if not self._statuses:
            return {}
        status = self._statuses[0] if len(self._statuses) == 1 else self._statuses.popleft()
        return SETTLED | {"message_id": path.rpartition("/")[2], "status": status}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(sender, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(sender, "RETRY_SECONDS", 0.01)


async def outcomes(consumer: Consumer, api: Api, count: int) -> list[tuple[str, str | None]]:
    consumer.sender = Sender(consumer, api)  # type: ignore[arg-type]
    messages = (Outgoing(Queue.ORDER, b"{}", f"m{number}") for number in range(count))
    found = consumer.sender.outcomes(messages)
    return [(m.message_id, o.status.value if o else None) async for m, o in found]


async def test_outcomes_come_in_the_order_of_the_messages() -> None:
    consumer, count = Consumer(capacity=1), 2 * sender.WINDOW + 3
    found = await outcomes(consumer, Api(), count)
    assert found == [(f"m{number}", "applied") for number in range(count)]
    assert consumer.published == [f"m{number}" for number in range(count)]


async def test_no_more_than_a_window_of_messages_waits_for_replies() -> None:
    consumer, count = Consumer(capacity=sender.WINDOW), sender.WINDOW + 50
    found = await outcomes(consumer, Api("applied"), count)
    assert len(found) == count
    assert consumer.most_waiting == sender.WINDOW


async def test_a_lost_reply_is_asked_for_over_http() -> None:
    assert await outcomes(Consumer(capacity=9), Api("rejected"), 2) == [
        ("m0", "rejected"),
        ("m1", "rejected"),
    ]


async def test_the_sender_waits_for_the_outcome_of_a_failing_message() -> None:
    assert await outcomes(Consumer(capacity=9), Api("failing", "dead"), 1) == [("m0", "dead")]


async def test_when_no_outcome_comes_the_wait_ends_for_all_messages_together() -> None:
    api = Api()
    assert await outcomes(Consumer(capacity=999), api, 50) == [(f"m{n}", None) for n in range(50)]
    assert 0 < api.asked <= 50 * 12


async def test_publishing_is_tried_again_for_a_while() -> None:
    consumer = Consumer(capacity=1)
    consumer.refuse = 3
    assert await outcomes(consumer, Api(), 2) == [("m0", "applied"), ("m1", "applied")]


async def test_publishing_is_given_up_when_the_broker_stays_away() -> None:
    consumer = Consumer(capacity=1)
    consumer.refuse = 10_000
    with pytest.raises(Unavailable):
        await outcomes(consumer, Api(), 2)


def test_message_ids_are_the_same_in_every_run_and_fit_a_header() -> None:
    assert message_id_of(Queue.PRODUCT, "NW-001") == "load:product:NW-001"
    odd = message_id_of(Queue.ORDER, "Привет " * 9)
    assert odd == message_id_of(Queue.ORDER, "Привет " * 9) and odd.isascii() and len(odd) < 100


def write(directory: Path, **texts: str) -> dict[str, Path]:
    rows = {"users": USER, "addresses": ADDRESS, "products": PRODUCT, "orders": ORDER} | texts
    for name, text in rows.items():
        (directory / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return {name: directory / f"{name}.jsonl" for name in rows}


def test_a_survey_counts_rows_and_names_the_first_line_of_each_key(tmp_path: Path) -> None:
    files = write(tmp_path, orders="\n" + ORDER + ORDER.replace('"1"', '"2"').replace("Ann", "Bo"))
    survey = Survey(files)
    assert survey.totals == {"users": 1, "addresses": 1, "products": 1, "orders": 2}
    assert survey.usernames == {"ann": f"{files['users']}:1", "bo": f"{files['orders']}:3"}
    assert survey.skus == {"A": f"{files['orders']}:2"}


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "users.jsonl"
    file.write_text("\ufeff" + USER, encoding="utf-8")
    assert len(list(rows_of(file, UserCreate))) == 1


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("users", USER + "{", ":2: Invalid JSON"),
        ("users", USER + "\n" + USER, ":3: username ann stands in an earlier line too"),
        ("products", PRODUCT.replace('"A"', "null"), ":1: sku: "),
        ("products", PRODUCT.replace("5", "-5"), ":1: stock_quantity: "),
        ("orders", ORDER + ORDER, ":2: external_id 1 stands in an earlier line too"),
        ("orders", ORDER.replace("quantity", "count"), ":1: items.0.quantity: Field required"),
        ("orders", ORDER + "\ufeff", ":2: Invalid JSON"),
        ("addresses", '["S"]', ":1: "),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(CliError) as caught:
        Survey(write(tmp_path, **{name: text}))
    assert str(caught.value).startswith(f"{tmp_path}/{name}.jsonl{told}")
    assert "\n" not in str(caught.value)


def test_a_line_that_is_not_utf_8_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "orders").write_bytes(ORDER.encode() + b'{"external_id": "\xff"}')
    with pytest.raises(CliError, match="orders:2: "):
        list(rows_of(tmp_path / "orders", OrderRow))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="nowhere.jsonl: No such file"):
        list(rows_of(tmp_path / "nowhere.jsonl", OrderRow))


STATE = {
    "pid": os.getpid(),
    "api_url": "http://localhost:18123",
    "redis_host": "127.0.0.1",
    "redis_port": 18124,
    "queue_transport": "streams",
}


def settings_beside(directory: Path, state: dict[str, Any], **chosen: Any) -> Settings:
    (directory / "state.json").write_text(json.dumps(state))
    return running_stack(Settings(_env_file=None, data_dir=directory, **chosen))


def test_a_running_service_is_found_by_its_state_file(tmp_path: Path) -> None:
    found = settings_beside(tmp_path, STATE)
    assert found.api_url == "http://localhost:18123"
    assert (found.queue_transport, found.streams_address.url) == (
        "streams",
        "redis://127.0.0.1:18124/1",
    )


def test_settings_take_precedence_over_the_running_service(tmp_path: Path) -> None:
    found = settings_beside(tmp_path, STATE, api_url="http://api", rabbitmq_host="rabbit")
    assert (found.api_url, found.queue_transport) == ("http://api", "rabbitmq")
    assert settings_beside(tmp_path, STATE, db_host="db").redis_host is None


def test_the_state_file_of_an_ended_service_is_ignored(tmp_path: Path) -> None:
    assert settings_beside(tmp_path, STATE | {"pid": 2**22 + 1}).redis_host is None
    assert settings_beside(tmp_path, {}).redis_host is None


def test_a_service_that_is_still_starting_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="still starting"):
        settings_beside(tmp_path, {"pid": os.getpid(), "redis_port": 1})
