"""PostgreSQL fails over to its synchronous standby while orders come over HTTP and queue. The old
primary cannot be reached, and comes back as one that takes itself for the primary."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from app.embedded import Postgres, Valkey
from app.queues import Queue
from harness.databases import Databases, connected
from harness.dependencies import Dependencies
from harness.postgres_cluster import Standby, address, on, primary_in, standby_of
from harness.waiting import eventually
from tests.faults.invariants import check_acknowledged, check_database
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.support.buyers import Buyers
from tests.faults.support.system import System, send_all

pytestmark = pytest.mark.fault

_WRITES_AGAIN = 20  # seconds; docs/reliability.md has what was measured
# What waits for the standby since before does not count, nor what is idle in a pool.
_USED = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'order-service' AND state_change > clock_timestamp() - interval '2 s'
"""


class Cluster(System):
    """The service knows both servers. It reaches the primary through `link`, and the standby gets
    its changes through `feed`. What the test itself asks and checks is in `leader`."""

    def __init__(
        self,
        url: str,
        primary: Postgres,
        standby: Standby,
        link: Proxy,
        feed: Proxy,
        valkey: Valkey,
        tree: Path,
        directory: Path,
    ) -> None:
        hosts = (link.host, link.port), (link.host, standby.port)
        super().__init__(Dependencies(address(*hosts, url=url), valkey), primary, tree, directory)
        self._url = url
        self.primary, self.standby = primary, standby
        self.link, self.feed = link, feed
        self.leader: Postgres = primary

    @property
    def database_url(self) -> str:
        return on(self.leader, self._url)

    async def freeze(self) -> None:
        """Nothing is heard of it, and no connection breaks."""
        self.primary.pause()

    async def cut_off(self) -> None:
        """It goes on, and neither the service nor the standby reaches it."""
        self.link.hang()
        self.feed.hang()

    async def part(self) -> None:
        """The standby alone has lost it: the service reaches both."""
        self.feed.hang()

    async def promote(self) -> None:
        await self.standby.promote()
        self.leader = self.standby

    async def heal(self) -> None:
        self.primary.resume()
        await self.link.heal()
        await self.feed.heal()

    async def ask_old(self, query: str) -> Any:
        async with connected(self.primary.admin_url) as operator:
            return await operator.fetchval(query)


@pytest.fixture
async def cluster(valkey: Valkey, tree: Path, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        primary = await stack.enter_async_context(primary_in(tmp_path))
        databases = Databases(primary)
        await databases.migrate_template(tree)
        link = await stack.enter_async_context(proxy_to(primary.port))
        feed = await stack.enter_async_context(proxy_to(primary.port))
        # Not `fresh`, which would drop it in a primary that cannot commit any more.
        url = databases.url("migrated")
        standby = await stack.enter_async_context(standby_of(primary, tmp_path, feed.port))
        cluster = Cluster(url, primary, standby, link, feed, valkey, tree, tmp_path)
        try:
            yield cluster
        finally:
            await cluster.heal()
            await cluster.close()


@pytest.mark.parametrize(
    "fault",
    [
        "freeze",
        pytest.param("cut_off", marks=pytest.mark.long),
        pytest.param("part", marks=pytest.mark.long),
    ],
)
async def test_a_standby_is_promoted_while_orders_flow(fault: str, cluster: Cluster) -> None:
    async with cluster.shop() as shop, cluster.queues() as queues, cluster.client() as client:
        product_id = await shop.product(stock=100_000)
        await cluster.start("web", "worker")
        buyers = Buyers(client, shop, product_id)
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in range(300)}
        sending = asyncio.create_task(send_all(queues, Queue.ORDER, orders, pause=0.02))
        await cluster.settled(20)

        began = time.monotonic()
        await getattr(cluster, fault)()
        await cluster.promote()
        promoted = time.monotonic()
        await eventually(lambda: buyers.newest > promoted, _WRITES_AGAIN)
        print(f"\n{fault}: an order after {buyers.newest - began:.1f} s, ", end="")
        settled = await _settled(cluster)
        await eventually(lambda: _more(cluster, settled), _WRITES_AGAIN)
        print(f"a message after {time.monotonic() - began:.1f} s")

        await cluster.heal()
        await _confirms_nothing(cluster)
        await eventually(lambda: _is_left(cluster), 10, lambda: "the old primary is still used")
        await _reads_are_of_the_new_one(cluster, client, product_id)
        await sending
        await buyers.stop()
        assert buyers.statuses.keys() == {201, 503}
        outcomes = await cluster.outcomes(queues, {Queue.ORDER: orders})
        assert set(outcomes.values()) == {"applied"}
    await check_acknowledged(cluster.database_url, buyers.acknowledged)
    await check_database(cluster.database_url, "")


async def _settled(cluster: Cluster) -> int:
    query = "SELECT count(*) FROM messages WHERE finished_at IS NOT NULL"
    return int(await cluster.value(query))


async def _more(cluster: Cluster, than: int) -> bool:
    return await _settled(cluster) > than


async def _confirms_nothing(cluster: Cluster) -> None:
    """The old primary takes a statement, and its commit waits for the standby for ever."""
    assert not await cluster.ask_old("SELECT pg_is_in_recovery()")
    url = on(cluster.primary, cluster.database_url)
    async with connected(url) as connection:
        with pytest.raises(TimeoutError):
            await connection.execute("UPDATE products SET name = 'lost'", timeout=1)


async def _is_left(cluster: Cluster) -> bool:
    """Whether no process of the service uses the old primary."""
    return bool(await cluster.ask_old(_USED) == 0)


async def _reads_are_of_the_new_one(cluster: Cluster, client: Any, product_id: int) -> None:
    for number in range(20):
        name = f"Tea {number}"
        path = f"/products/{product_id}"
        assert (await client.put(path, json={"name": name})).status_code == 200
        assert (await client.get(path)).json()["name"] == name
        listed = (await client.get("/products")).json()["products"]
        assert [product["name"] for product in listed] == [name]
