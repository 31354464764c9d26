"""A request that needs one statement takes one round trip to PostgreSQL, and what it changes is one
transaction all the same."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from app.container import Container
from app.errors import Duplicate
from app.schemas.users import UserCreate, UserUpdate
from harness.shop import Shop

_USER = {"username": "jane", "email": "jane@example.com"}
_ADDRESS = {"street": "Obere Str. 57", "city": "Berlin", "country": "DE"}


class RoundTrips:
    """How many an engine's connections have made; connecting is not counted."""

    def __init__(self, container: Container) -> None:
        # pylint: disable-next=protected-access
        self._engine = container.database._engine.sync_engine
        self._connections: set[Any] = set()
        self._before = 0

    def _checked_out(self, connection: Any, *_: object) -> None:
        known = len(self._connections)
        self._connections.add(connection.driver_connection)
        if len(self._connections) > known:
            # pylint: disable-next=protected-access
            self._before += connection.driver_connection._protocol.queries_count

    def __enter__(self) -> "RoundTrips":
        event.listen(self._engine, "checkout", self._checked_out)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "checkout", self._checked_out)

    @property
    def made(self) -> int:
        # pylint: disable-next=protected-access
        return sum(int(c._protocol.queries_count) for c in self._connections) - self._before


@pytest.fixture
def round_trips(container: Container) -> Iterator[RoundTrips]:
    with RoundTrips(container) as counted:
        yield counted


async def _made(
    round_trips: RoundTrips, client: httpx.AsyncClient, *request: Any, **more: Any
) -> int:
    """By the second such request: the first one prepares its statements."""
    for _ in range(2):
        before = round_trips.made
        response = await client.request(*request, **more)
        assert response.is_success, response.text
    return round_trips.made - before


@pytest.mark.parametrize(
    "path, change",
    [("/users/{user}", {"description": "Designer"}), ("/users/{user}", {"username": "jo"})]
    + [("/products/{product}", {"price": 2}), ("/addresses/{address}", {"city": "Bonn"})],
)
async def test_a_change(
    path: str,
    change: dict[str, Any],
    client: httpx.AsyncClient,
    shop: Shop,
    round_trips: RoundTrips,
) -> None:
    ids = {"user": shop.user_id, "address": shop.address_id, "product": await shop.product()}
    # The cache loads a changed product again, which is a read.
    reads = 1 if "product" in path else 0
    assert await _made(round_trips, client, "PUT", path.format(**ids), json=change) == 1 + reads


async def test_a_new_address(
    client: httpx.AsyncClient, shop: Shop, round_trips: RoundTrips
) -> None:
    path = f"/users/{shop.user_id}/addresses"
    assert await _made(round_trips, client, "POST", path, json=_ADDRESS) == 1
    missing = await client.post("/users/999/addresses", json=_ADDRESS)
    assert (missing.status_code, missing.json()["detail"]) == (404, "user 999 does not exist")


async def test_new_users_and_their_end(client: httpx.AsyncClient, round_trips: RoundTrips) -> None:
    made, ids = [], []
    for n in range(3):
        before = round_trips.made
        user = {"username": f"jane{n}", "email": f"jane{n}@example.com"}
        ids.append((await client.post("/users", json=user)).json()["id"])
        made.append(round_trips.made - before)
    assert made[1:] == [1, 1]
    made.clear()
    for id in ids:
        before = round_trips.made
        assert (await client.delete(f"/users/{id}")).status_code == 204
        made.append(round_trips.made - before)
    assert made[1:] == [1, 1]


async def test_a_change_under_a_condition_locks_first(
    client: httpx.AsyncClient, shop: Shop, round_trips: RoundTrips
) -> None:
    tag = (await client.get(f"/users/{shop.user_id}")).headers["etag"]
    before = round_trips.made
    wrong = await client.put(
        f"/users/{shop.user_id}", json={"description": "x"}, headers={"If-Match": '"0"'}
    )
    assert wrong.status_code == 412 and round_trips.made > before + 1
    right = await client.put(
        f"/users/{shop.user_id}", json={"description": "x"}, headers={"If-Match": tag}
    )
    assert right.json()["description"] == "x"


async def test_a_second_statement_is_refused(container: Container) -> None:
    with pytest.raises(RuntimeError, match="take ONE_CALL from the route"):
        async with container.unit_of_work(is_for_one_call=True) as uow:
            created = await uow.users.create(UserCreate.model_validate(_USER))
            await uow.users.update(created.id, UserUpdate.model_validate({"username": "jo"}))


async def test_two_calls_of_a_unit_of_work_are_one_transaction(container: Container) -> None:
    with pytest.raises(Duplicate):
        async with container.unit_of_work() as uow:
            for _ in range(2):
                await uow.users.create(UserCreate.model_validate(_USER))
    async with container.unit_of_work(is_for_one_call=True) as uow:
        await uow.users.create(UserCreate.model_validate(_USER))


async def test_what_fails_is_not_kept(client: httpx.AsyncClient, shop: Shop) -> None:
    """Also in the statement that commits itself: the user has an order."""
    order = shop.order_body((await shop.product(), 1))
    assert (await client.post("/orders", json=order)).status_code == 201
    assert (await client.delete(f"/users/{shop.user_id}")).status_code == 409
    assert (await client.get(f"/users/{shop.user_id}")).status_code == 200
