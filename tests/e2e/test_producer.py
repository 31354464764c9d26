"""`producer.py` with the whole service, both started as their users start them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.embedded.ports import LOOPBACK, free_port
from harness import northwind
from harness.rabbitmq import RabbitMQ
from harness.service import PYTHON, Ended, Service, one_command
from harness.tree import copy_tree, edit
from harness.waiting import eventually

# The sample


async def test_every_run_creates_five_products_and_three_orders(service: Service) -> None:
    before = {name: await service.total(name) for name in ("users", "products", "orders")}
    first = await service.run("producer.py")
    again = await service.run("producer.py")
    assert (first.code, again.code) == (0, 0), first.err + again.err
    assert first.out.count("applied") == again.out.count("applied") == 8
    assert "sample user" not in again.out
    assert await service.total("products") == before["products"] + 10
    assert await service.total("orders") == before["orders"] + 6
    assert await service.total("users") == max(before["users"], 1)
    stock = {p["name"]: p["stock_quantity"] for p in (await service.every("products"))[-5:]}
    assert stock == {"Tea": 97, "Coffee": 97, "Teapot": 99, "Cup": 96, "Honey": 98}


async def test_a_chosen_user_and_address_need_no_http(service: Service) -> None:
    user_id, address_id = await customer(service, "chosen")
    chosen = {"TEST_USER_ID": str(user_id), "TEST_DELIVERY_ADDRESS_ID": str(address_id)}
    nowhere = {"API_URL": f"http://localhost:{free_port()}"}
    ended = await service.run("producer.py", variables=chosen | nowhere)
    assert ended.code == 0, ended.err
    orders = (await service.api.get("/orders", params={"user_id": user_id})).json()["orders"]
    assert [order["delivery_address_id"] for order in orders] == [address_id] * 3


async def test_the_address_of_another_user_is_not_used(service: Service) -> None:
    await customer(service, "first")  # so address 1 belongs to another user
    user_id = (await service.api.post("/users", json=person("second"))).json()["id"]
    for _ in range(2):
        ended = await service.run("producer.py", variables={"TEST_USER_ID": str(user_id)})
        assert ended.code == 0, ended.out + ended.err
    addresses = (await service.api.get(f"/users/{user_id}/addresses")).json()
    assert addresses["total"] == 1


async def test_a_rejected_order_is_shown(service: Service) -> None:
    chosen = {"TEST_USER_ID": "2000000", "TEST_DELIVERY_ADDRESS_ID": "1"}
    ended = await service.run("producer.py", variables=chosen)
    assert ended.code == 1
    assert ended.out.count("rejected") == 3 and "user 2000000 does not exist" in ended.out
    assert ended.err == "producer: not everything was applied\n"


def person(name: str) -> dict[str, str]:
    return {"username": name, "email": f"{name}@example.com"}


async def customer(service: Service, name: str) -> tuple[int, int]:
    user_id = (await service.api.post("/users", json=person(name))).json()["id"]
    address = {"street": "S", "city": "C", "country": "D"}
    made = await service.api.post(f"/users/{user_id}/addresses", json=address)
    return user_id, made.json()["id"]


# The user's own data


def write(directory: Path, **rows: Sequence[dict[str, Any]]) -> Path:
    for name in ("users", "addresses", "products", "orders"):
        lines = [json.dumps(row) + "\n" for row in rows.get(name, ())]
        (directory / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return directory


def order(external_id: str, username: str, **quantities: int) -> dict[str, Any]:
    items = [{"sku": s, "quantity": q, "unit_price": "0.01"} for s, q in quantities.items()]
    return {"external_id": external_id, "username": username, "items": items}


def product(sku: str, stock: int) -> dict[str, Any]:
    return {"sku": sku, "name": sku, "price": "2.50", "stock_quantity": stock}


async def test_loading_reuses_existing_rows_and_adds_nothing_twice(
    service: Service, tmp_path: Path
) -> None:
    user_id, address_id = await customer(service, "Loaded")
    await service.api.post("/products", json=product("old", 10))
    await service.api.post("/products", json=product("elsewhere", 10))
    address = {"street": "S", "city": "C", "country": "D"}
    data = write(
        tmp_path,
        users=[person("loaded"), person("loaded-2")],
        addresses=[{"username": "LOADED"} | address, {"username": "loaded-2"} | address],
        products=[product("old", 99), product("new", 10)],
        orders=[
            order("load-1", "Loaded", old=4, elsewhere=1),
            order("load-2", "loaded-2", new=11),
            order("load-3", "loaded-2", new=10) | {"ordered_at": "2026-01-02T03:04:05Z"},
        ],
    )
    first = await service.run("producer.py", "--data", data)
    assert (first.code, first.err) == (0, "")
    assert summary(first) == {
        "users": "1 already there, 1 created",
        "addresses": "1 already there, 1 created",
        "products": "1 rejected (duplicate), 1 created",
        "orders": "2 created, 1 rejected (out-of-stock)",
    }
    found = (await service.api.get("/orders", params={"user_id": user_id})).json()["orders"]
    detail = (await service.api.get(f"/orders/{found[0]['id']}")).json()
    assert (detail["external_id"], detail["delivery_address_id"]) == ("load-1", address_id)
    assert {item["unit_price"] for item in detail["items"]} == {"2.50"}

    counts = [await service.total(name) for name in ("users", "products", "orders")]
    again = await service.run("producer.py", "--data", data)
    assert again.code == 0
    assert summary(again) == {
        "users": "2 already there",
        "addresses": "2 already there",
        "products": "1 rejected (duplicate), 1 already there",
        "orders": "2 already there, 1 rejected (out-of-stock)",
    }
    assert counts == [await service.total(name) for name in ("users", "products", "orders")]
    stock = {p["sku"]: p["stock_quantity"] for p in await service.every("products")}
    assert (stock["old"], stock["elsewhere"], stock["new"]) == (6, 9, 0)

    write(tmp_path, products=[product("new", 11)])
    changed = await service.run("producer.py", "--data", data)
    assert changed.code == 1 and "Change products and orders over HTTP" in changed.out
    assert summary(changed)["products"] == "1 dead (changed since it was loaded)"
    assert counts == [await service.total(name) for name in ("users", "products", "orders")]


def summary(ended: Ended) -> dict[str, str]:
    lines = [line.partition(" ") for line in ended.out.splitlines() if "%" not in line]
    return {name: counts.strip() for name, _, counts in lines}


@pytest.mark.parametrize(
    ("username", "sku", "told"),
    [
        ("nobody-1", "known", "user nobody-1 is neither in the files nor in the service"),
        ("known-user", "unknown", "product unknown is neither in the files nor in the service"),
    ],
)
async def test_an_order_with_an_unknown_user_or_product_is_named_and_not_sent(
    service: Service, tmp_path: Path, username: str, sku: str, told: str
) -> None:
    users = [person("known-user")]
    data = write(tmp_path, users=users, orders=[order(f"unknown-{sku}", username, **{sku: 1})])
    ended = await service.run("producer.py", "--data", data)
    assert ended.code == 2
    assert ended.err == f"producer: {data}/orders.jsonl:1: {told}\n"
    assert (await service.api.get(f"/messages/load:order:unknown-{sku}")).status_code == 404


async def test_users_and_addresses_alone_need_no_queues(service: Service, tmp_path: Path) -> None:
    address = {"username": "alone", "street": "S", "city": "C", "country": "D"}
    data = write(tmp_path, users=[person("alone")], addresses=[address])
    away = {"RABBITMQ_HOST": LOOPBACK, "RABBITMQ_PORT": str(free_port())}
    loaded = await service.run("producer.py", "--data", data, variables=away)
    assert (loaded.code, summary(loaded)["addresses"]) == (0, "1 created"), loaded
    write(tmp_path, products=[product("tea-alone", 1)])
    refused = await service.run("producer.py", "--data", data, variables=away)
    assert refused.code == 2 and refused.err.startswith("producer: RabbitMQ "), refused


async def test_a_taken_email_is_named(service: Service, tmp_path: Path) -> None:
    await service.api.post("/users", json=person("taken"))
    data = write(tmp_path, users=[person("taken") | {"username": "not-taken"}])
    ended = await service.run("producer.py", "--data", data)
    assert ended.code == 2
    assert ended.err.startswith(f"producer: {data}/users.jsonl:1: ") and "email" in ended.err


async def test_a_killed_load_is_resumed_and_the_same_orders_are_rejected(tmp_path: Path) -> None:
    northwind.require()
    tree = copy_tree(tmp_path / "tree")
    # A repeat of a message waits for the caches if the first was settled that short a time ago:
    # one repeat after the other, until the time is over.
    recent = "_RECENT = timedelta(seconds={})"
    edit(tree, "app/services/after_commit.py", recent.format(30), recent.format(1))
    data = northwind.NORTHWIND
    load = ("producer.py", "--data", data, "--products", data / "products_half.jsonl")
    async with one_command(tree, tmp_path, WORKER_CONCURRENCY="1") as service:
        process = service.process("load", PYTHON, *load)
        process.start()
        await eventually(lambda: _has_orders(service, 100), seconds=60)
        process.kill()
        ended = await service.run(*load, seconds=120)
        assert ended.code == 0, ended.err
        rejected = northwind.truth("rejected_half_enough")
        assert f"{len(rejected)} rejected (out-of-stock)" in summary(ended)["orders"]
        for row in rejected:
            path = f"/messages/load:order:{row['external_id']}"
            assert (await service.api.get(path)).json()["status"] == "rejected", row
        assert await service.total("orders") == 830 - len(rejected)
        stock = {p["sku"]: p["stock_quantity"] for p in await service.every("products")}
        expected = northwind.truth("final_stock_half_enough")
        assert stock == {row["sku"]: int(row["final"]) for row in expected}


async def _has_orders(service: Service, count: int) -> bool:
    return await service.total("orders") >= count


# Where the queues are


async def test_wrong_rabbitmq_settings_are_reported_in_one_line(
    rabbitmq: RabbitMQ, tree: Path, tmp_path: Path
) -> None:
    right = {"DATA_DIR": str(tmp_path), **rabbitmq.variables}
    wrong = {
        "RABBITMQ_VHOST": "nowhere",
        "RABBITMQ_PASSWORD": "wrong",
        "RABBITMQ_HOST": "rabbitmq.invalid",
        "RABBITMQ_PORT": str(free_port()),
    }
    async with Service(tree, tmp_path, right) as service:
        for name, value in wrong.items():
            ended = await service.run("producer.py", variables={name: value}, seconds=20)
            assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
            assert ended.err.startswith("producer: RabbitMQ ") and name in ended.err


async def test_samples_and_data_through_rabbitmq(
    rabbitmq: RabbitMQ, tree: Path, tmp_path: Path
) -> None:
    data = write(
        tmp_path,
        users=[person("ann")],
        addresses=[{"username": "ann", "street": "S", "city": "C", "country": "D"}],
        products=[product("tea", 10)],
        orders=[order("1", "ann", tea=9), order("2", "ann", tea=2)],
    )
    async with one_command(tree, tmp_path, **rabbitmq.variables) as service:
        ended = await service.run("producer.py")
        assert ended.code == 0 and ended.out.count("applied") == 8, ended
        loaded = await service.run("producer.py", "--data", data)
        assert set(summary(loaded)["orders"].split(", ")) == {
            "1 created",
            "1 rejected (out-of-stock)",
        }
    names = await rabbitmq.control("list_queues", "-p", "local", "name")
    assert "replies." not in names
