"""indexes for the orders of a user, and of a status

They are listed by their ids, so the indexes have the ids in order, and what else is asked of them
beside: their exact totals, and their order by time, read no row. Made while others write: see
docs/upgrades.md.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "7c1e94d0a3b8"
down_revision: str | None = "f04a7be26d19"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# The new one, what it has, and which one it replaces with which columns.
INDEXES = [
    ("ix_orders_of_user", ["user_id", "id"], ["status", "ordered_at"], "ix_orders_user_id", 1),
    ("ix_orders_of_status", ["status", "id"], ["ordered_at"], "ix_orders_status_id", 2),
]


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, columns, include, old, _ in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.create_index(
                name,
                "orders",
                columns,
                postgresql_include=include,
                postgresql_concurrently=True,
            )
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {old}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name, columns, _, old, count in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {old}")
            op.create_index(old, "orders", columns[:count], postgresql_concurrently=True)
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
