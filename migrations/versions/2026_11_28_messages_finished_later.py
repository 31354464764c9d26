"""an index of the messages that did not succeed at once

By it the message of a status or an order is found: see app/repositories/order_lives.py.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "f04a7be26d19"
down_revision: str | None = "93c5e7a1d64b"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

NAME = "ix_messages_finished_later"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.create_index(
            NAME,
            "messages",
            ["finished_at"],
            postgresql_where=sa.text("finished_at <> first_seen_at"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
