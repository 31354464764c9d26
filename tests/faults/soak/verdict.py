"""After all faults are over: was every promise kept?"""

from collections import Counter
from collections.abc import Awaitable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from app.queues import Queue
from harness.databases import connected
from harness.queues import QueueClient
from harness.waiting import eventually
from tests.faults.invariants import (
    check_acknowledged,
    check_database,
    check_exactly_once,
    check_report_messages,
    take_all,
)
from tests.faults.keepalive import KeepAlive
from tests.faults.ledger import MOST_HIDDEN_SECONDS
from tests.faults.soak.customers import REUSED_ID
from tests.faults.soak.deployment import Deployment
from tests.faults.soak.market import BY_MESSAGE, Market
from tests.faults.soak.senders import Senders
from tests.faults.support.system import drained

_SETTLE_SECONDS = 120
_SETTLED = "SELECT count(*) FROM messages WHERE finished_at IS NOT NULL"

_EFFECTS = {
    Queue.ORDER: "SELECT count(*) FROM orders WHERE external_id IS NULL",
    Queue.PRODUCT: f"SELECT count(*) FROM products WHERE name = '{BY_MESSAGE}'",
}
_RENAMED = "SELECT count(*) FROM products WHERE name = $1"


@dataclass
class Verdict:
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    async def check(self, promise: str, checking: Awaitable[None]) -> None:
        """Records a broken promise and goes on, so that one does not hide another."""
        try:
            await checking
        except AssertionError as error:
            self.violations.append(f"{promise}: {str(error)[:2000]}")


async def judge(deployment: Deployment, market: Market) -> Verdict:
    verdict, url = Verdict(), deployment.database_url
    async with deployment.queues() as queues:
        await verdict.check("everything drains", _settled(deployment, market, queues))
        await verdict.check("responses", _check_responses(market))
        await verdict.check("the newest versions", _check_versions(market))
        await deployment.stop_consuming()
        log = deployment.postgres_log.read_text(errors="replace")
        await verdict.check("the database", check_database(url, log))
        await verdict.check("exactly once", _check_messages(verdict, url, market, queues))
        reports = await take_all(queues, Queue.REPORT)
        await verdict.check("reports", check_report_messages(url, reports))
        await verdict.check("acknowledged writes", _check_writes(url, market))
    return verdict


async def _settled(deployment: Deployment, market: Market, queues: QueueClient) -> None:
    wanted = sum(map(len, market.senders.published.values()))

    async def are_settled() -> bool:
        async with connected(deployment.database_url) as connection:
            settled = await connection.fetchval(_SETTLED)
            return settled >= wanted and not await connection.fetch("SELECT FROM outbox")

    await eventually(are_settled, _SETTLE_SECONDS, lambda: f"{wanted} messages are not settled")
    await drained(queues)


async def _check_responses(market: Market) -> None:
    customers = market.customers
    assert not customers.violations, customers.violations[:5]
    assert not customers.tally.stale, customers.tally.examples[:5]
    assert customers.tally.longest_hidden <= MOST_HIDDEN_SECONDS, customers.tally.longest_hidden


async def _check_versions(market: Market) -> None:
    """Reads every key twice more: the second read may come from the cache."""
    with closing(KeepAlive(market.customers.port)) as client:
        for key in market.customers.keys * 2:
            floors = key.described.floor, key.sold.floor if key.sold else 0
            response = await client.get(key.path)
            assert response.status == 200
            before = market.customers.tally.stale
            market.customers.tally.saw(key, floors, response)
            assert market.customers.tally.stale == before, market.customers.tally.examples[-1]


async def _check_messages(verdict: Verdict, url: str, market: Market, queues: QueueClient) -> None:
    senders = market.senders
    outcomes = await check_exactly_once(url, queues, senders.published, senders.reused)
    verdict.outcomes.update(outcomes.values())
    await _check_effects(url, senders, outcomes)
    wrong = {id: it for id, it in outcomes.items() if it not in senders.expected[id]}
    assert not wrong, list(wrong.items())[:10]


async def _check_effects(url: str, senders: Senders, outcomes: Mapping[str, str]) -> None:
    """There are as many orders and products as applied messages. Those that came over HTTP are told
    apart by an external id or by their name."""
    async with connected(url) as connection:
        for queue, query in _EFFECTS.items():
            applied = sum(outcomes[id] == "applied" for id in senders.published[queue])
            found = await connection.fetchval(query)
            assert found == applied, f"{queue}: {applied} applied, {found} made"
        renamed = await connection.fetchval(_RENAMED, REUSED_ID)
        assert not renamed, f"{renamed} products renamed by messages with reused ids"


async def _check_writes(url: str, market: Market) -> None:
    customers = market.customers
    await check_acknowledged(url, customers.placed)
    async with connected(url) as connection:
        ids = [row[0] for row in await connection.fetch("SELECT id FROM users")]
        query = "SELECT id FROM orders WHERE status = 'cancelled'"
        cancelled = [row[0] for row in await connection.fetch(query)]
    assert customers.users <= set(ids), customers.users - set(ids)
    assert customers.cancelled <= set(cancelled), customers.cancelled - set(cancelled)
