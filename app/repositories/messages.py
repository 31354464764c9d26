import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    ARRAY,
    LargeBinary,
    Text,
    TextClause,
    and_,
    bindparam,
    case,
    column,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert

from app.models.messages import Message
from app.queues import Queue
from app.repositories.cursors import Key, beyond, cursor_of, ordered, place_arguments
from app.schemas.messages import MessageFilters, MessageKey, MessageRead, MessageStatus

# The rows are there. As conflicts they are found by their key, whatever the plan, and in half the
# time of an UPDATE that joins them.
_RECORD = text("""
INSERT INTO messages (queue, message_id, status, result_id, reason, detail, facts)
SELECT :queue, o.message_id, o.status, o.result_id, o.reason, o.detail, CAST(o.facts AS jsonb)
FROM unnest(
    CAST(:message_id AS text[]), CAST(:status AS text[]), CAST(:result_id AS bigint[]),
    CAST(:reason AS text[]), CAST(:detail AS text[]), CAST(:facts AS text[])
) AS o (message_id, status, result_id, reason, detail, facts)
ON CONFLICT (message_id, queue) DO UPDATE SET status = excluded.status,
    result_id = excluded.result_id, reason = excluded.reason, detail = excluded.detail,
    facts = excluded.facts
""")


# The newest first. A status is part of the text, so that the index of those that were not applied
# is used whatever the plan.
_KEYS = (
    Key("first_seen_at", "timestamptz", datetime),
    *(Key(n, "text", str) for n in ("message_id", "queue")),
)
_CONDITIONS = {
    "id": "message_id = :id",
    "queue": "queue = :queue",
    "reason": "reason = :reason AND status <> 'applied'",
    "not_applied": "status <> 'applied'",
    "seen_from": "first_seen_at >= :seen_from",
    "seen_before": "first_seen_at < :seen_before",
}


class MessagePage(NamedTuple):
    """`next` is the cursor of the next page, if there is one."""

    rows: Sequence[Message]
    next: str | None


class Claimed(NamedTuple):
    message_id: str
    attempts: int
    first_seen_at: datetime
    finished_at: datetime


class MessageRepository:
    """The inbox."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def latest(self, message_id: str) -> Message | None:
        """Ids are unique in each queue. If two queues have a message with this id, the newer."""
        query = (
            select(Message)
            .where(Message.message_id == message_id)
            .order_by(Message.first_seen_at.desc())
            .limit(1)
        )
        return cast(Message | None, (await self._connection.execute(query)).one_or_none())

    async def page(self, wanted: MessageFilters, count: int, after: str | None) -> MessagePage:
        """Raises BadCursor."""
        given = {name: value for name, value in asdict(wanted).items() if value is not None}
        scope = json.dumps(["messages", given], default=str)
        status = given.pop("status", None)
        arguments = {**given, "limit": count + 1}
        if after is not None:
            arguments |= place_arguments(scope, after, _KEYS)
        query = _page(tuple(given), status, after is not None)
        rows = (await self._connection.execute(query, arguments)).all()
        found = rows[:count]
        following = None
        if len(rows) > count:
            following = cursor_of(scope, tuple(getattr(found[-1], key.sql) for key in _KEYS))
        return MessagePage(cast(Sequence[Message], found), following)

    async def last_not_applied(self, count: int) -> Sequence[Message]:
        """The newest first."""
        query = _page(("not_applied",), None, False)
        rows = (await self._connection.execute(query, {"limit": count})).all()
        return cast(Sequence[Message], rows)

    async def find(self, queue: Queue, message_id: str) -> Message | None:
        query = select(Message).where(Message.message_id == message_id, Message.queue == queue)
        return cast(Message | None, (await self._connection.execute(query)).one_or_none())

    async def settle(self, key: MessageKey, status: MessageStatus, **fields: Any) -> bool:
        """Write the message's outcome. False if there is one already, or if another body with this
        id is being tried.

        A second delivery of the same message waits here for the first one's transaction."""
        values = {"reason": None, "detail": None, "facts": None, **fields, "status": status}
        new = insert(Message).values(**key._asdict(), finished_at=func.now(), **values)
        values["finished_at"] = func.now()
        statement = _unless_settled(new, values).returning(Message.message_id)
        return (await self._connection.scalar(statement)) is not None

    async def claim(self, keys: Sequence[MessageKey]) -> Sequence[Claimed]:
        """As `settle`, for many messages of one queue: write those that have no outcome yet as
        applied.

        In the order of the ids, so that two transactions with the same ids do not deadlock."""
        claimed = await self._connection.execute(
            _CLAIM,
            {
                "queue": keys[0].queue,
                "message_ids": [key.message_id for key in keys],
                "fingerprints": [key.fingerprint for key in keys],
            },
        )
        return [Claimed(*row) for row in claimed]

    async def record(self, outcomes: Sequence[MessageRead]) -> None:
        """Write the outcomes of claimed messages of one queue."""
        columns = ("message_id", "status", "result_id", "reason", "detail")
        values = {name: [getattr(outcome, name) for outcome in outcomes] for name in columns}
        facts = [outcome.facts and json.dumps(outcome.facts) for outcome in outcomes]
        await self._connection.execute(
            _RECORD, {"queue": outcomes[0].queue, "facts": facts, **values}
        )

    async def count_failure(self, key: MessageKey, detail: str) -> int:
        """How often the message has failed. A dead message that is sent again starts at 1."""
        values = {"status": MessageStatus.FAILING, "reason": "failure", "detail": detail}
        new = insert(Message).values(**key._asdict(), attempts=1, **values)
        attempts = case((Message.status == MessageStatus.DEAD, 1), else_=Message.attempts + 1)
        statement = _unless_settled(new, {**values, "finished_at": None, "attempts": attempts})
        counted = await self._connection.scalar(statement.returning(Message.attempts))
        return counted or 0


@cache
def _page(filters: tuple[str, ...], status: MessageStatus | None, by_cursor: bool) -> TextClause:
    conditions = [_CONDITIONS[name] for name in filters]
    if status:
        conditions.append(f"status = '{status}'")
    if by_cursor:
        conditions.append(beyond(_KEYS, is_reversed=True))
    columns = ", ".join(column.name for column in Message.__table__.columns)
    return text(
        f"SELECT {columns} FROM messages WHERE {' AND '.join(conditions) or 'true'} "
        f"ORDER BY {ordered(_KEYS, is_reversed=True)} LIMIT :limit"
    )


def _unless_settled(new: Insert, values: Mapping[str, Any]) -> Insert:
    """A dead message may be sent again, also with a corrected body. A failing one is being tried,
    so another body under its id changes nothing. All others have an outcome, which stays. Rows from
    before there were fingerprints have none."""
    is_same = func.coalesce(Message.fingerprint, new.excluded.fingerprint).is_not_distinct_from(
        new.excluded.fingerprint
    )
    return new.on_conflict_do_update(
        index_elements=[Message.message_id, Message.queue],
        set_={**values, "fingerprint": new.excluded.fingerprint},
        where=or_(
            Message.status == MessageStatus.DEAD,
            and_(Message.status == MessageStatus.FAILING, is_same),
        ),
    )


def _claim() -> ReturningInsert[*tuple[Any, ...]]:
    found = (
        func.unnest(
            bindparam("message_ids", type_=ARRAY(Text)),
            bindparam("fingerprints", type_=ARRAY(LargeBinary)),
        )
        .table_valued(column("message_id", Text), column("fingerprint", LargeBinary), name="found")
        .render_derived()
    )
    settled = {"status": MessageStatus.APPLIED, "finished_at": func.now()}
    fresh = select(
        found.c.message_id,
        found.c.fingerprint,
        bindparam("queue", type_=Text),
        literal(MessageStatus.APPLIED),
        func.now(),
    ).order_by(found.c.message_id)
    new = insert(Message).from_select(["message_id", "fingerprint", "queue", *settled], fresh)
    unsettled = _unless_settled(new, {"reason": None, "detail": None, "facts": None, **settled})
    return unsettled.returning(
        Message.message_id,
        Message.attempts,
        Message.first_seen_at,
        Message.finished_at,
    )


# Made once: SQLAlchemy needs longer to make it than PostgreSQL to run it for a few messages.
_CLAIM = _claim()
