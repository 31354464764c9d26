"""ids of 64 bits

Locks: each table is rewritten with its indexes under an ACCESS EXCLUSIVE lock, and its foreign keys
are checked again, so the service stands still until the end.
The downgrade fails, and changes nothing, if an id no longer fits into 32 bits.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "d47a0c9be815"
down_revision: str | None = "b1f0a6d3c5e2"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# All columns of a table in one statement, so that it is rewritten once. An identity's sequence
# follows its column.
_IDS = {
    "users": ("id",),
    "addresses": ("id", "user_id"),
    "products": ("id",),
    "orders": ("id", "user_id", "delivery_address_id"),
    "order_items": ("order_id", "product_id"),
    "stock_movements": ("product_id", "order_id"),
    "reports": ("id", "order_id"),
    "messages": ("result_id",),
}


def upgrade() -> None:
    _set_types("bigint")


def downgrade() -> None:
    _set_types("integer")


def _set_types(type_: str) -> None:
    for table, columns in _IDS.items():
        changes = ", ".join(f"ALTER COLUMN {column} TYPE {type_}" for column in columns)
        op.execute(f"ALTER TABLE {table} {changes}")
