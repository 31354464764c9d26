"""indexes for the filters and the orders of lists

Each in a transaction of its own, while others write: see docs/upgrades.md.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "b9d0f3a6c714"
down_revision: str | None = "c5d2e8f7a140"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

NAME = sa.text('"left"(lower(name) COLLATE "C", 200)')
ID = sa.text("id")
INDEXES = [
    ("ix_products_name", "products", [NAME, ID]),
    ("ix_products_price", "products", [sa.text("price"), ID]),
    # In place of ix_orders_status: the orders of a status are listed by their ids.
    ("ix_orders_status_id", "orders", [sa.text("status"), ID]),
]
NOT_APPLIED = "ix_messages_not_applied"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, table, columns in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.create_index(name, table, columns, postgresql_concurrently=True)
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_orders_status")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NOT_APPLIED}")
        op.create_index(
            NOT_APPLIED,
            "messages",
            ["first_seen_at", "message_id", "queue"],
            postgresql_where=sa.text("status <> 'applied'"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index("ix_orders_status", "orders", ["status"], postgresql_concurrently=True)
        for name in (NOT_APPLIED, *(name for name, _, _ in INDEXES)):
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
