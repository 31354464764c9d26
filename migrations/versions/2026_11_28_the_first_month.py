"""ids of 64 bits, delivery addresses of orders, totals that outlast a restore,
late orders, the age of messages

Locks: each table is rewritten with its indexes under an ACCESS EXCLUSIVE lock, and its foreign keys
are checked again, so the service stands still until the end: 100 s
with 1,000,000 rows in each of users, addresses, products, orders, order_items, stock_movements,
reports and messages (1.1 GB), on two cores that were busy with other things.
The downgrade fails, and changes nothing, if an id no longer fits into 32 bits.
"""

from collections.abc import Sequence

import sqlalchemy as sa
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

# For orders that are written without their delivery address: by psql, say. Nothing is known of an
# address that does not exist; the foreign key refuses such an order.
_ADDRESS_OF = """
CREATE FUNCTION address_of(address_id bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN coalesce((
        SELECT jsonb_build_object('street', street, 'city', city, 'state', state,
            'zip_code', zip_code, 'country', country)
        FROM addresses WHERE id = address_id
    ), '{}');
END $$
"""
_KEEP_ADDRESS = """
CREATE FUNCTION keep_delivery_address() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.delivery_address := address_of(NEW.delivery_address_id);
    RETURN NEW;
END $$
"""
_TRIGGER = """
CREATE TRIGGER keep_delivery_address BEFORE INSERT ON orders FOR EACH ROW
WHEN (NEW.delivery_address IS NULL) EXECUTE FUNCTION keep_delivery_address()
"""

_COUNTED = ("users", "products", "orders")
# As in `row counts`, with two differences. Dumps are restored with an empty search_path, so the
# function has its own. And a total needs a row of slot -1: without it, it is counted when it is read.
_COUNT_ROWS = """
CREATE OR REPLACE FUNCTION count_rows() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM row_counts WHERE table_name = TG_TABLE_NAME;
        INSERT INTO row_counts VALUES (TG_TABLE_NAME, -1, 0);
    ELSE
        INSERT INTO row_counts
        SELECT TG_TABLE_NAME, pg_backend_pid() & 127,
            CASE TG_OP WHEN 'INSERT' THEN count(*) ELSE -count(*) END
        FROM changed HAVING count(*) > 0
        ON CONFLICT (table_name, slot) DO UPDATE SET rows = row_counts.rows + excluded.rows;
    END IF;
    RETURN NULL;
END $$
"""
# A trigger that is always enabled works in a replica too. Whoever disables it, as pg_restore
# --disable-triggers does, leaves it less than that, and so the total is known to need a recount.
_TRIGGERS = ("count_inserted", "count_deleted", "count_truncated")


def upgrade() -> None:
    op.execute(_ADDRESS_OF)
    op.execute("ALTER TABLE orders ADD COLUMN delivery_address jsonb")
    for table in _IDS:
        # Filled in while the table is rewritten: an UPDATE would write it, and its indexes, twice.
        _set_types(
            table,
            "bigint",
            (
                "ALTER COLUMN delivery_address TYPE jsonb USING address_of(delivery_address_id), "
                "ALTER COLUMN delivery_address SET NOT NULL, "
                if table == "orders"
                else ""
            ),
        )
    op.execute(_KEEP_ADDRESS)
    op.execute(_TRIGGER)
    op.execute("ALTER TABLE orders ENABLE ALWAYS TRIGGER keep_delivery_address")
    op.create_index(
        "ix_orders_dated_back",
        "orders",
        ["created_at"],
        postgresql_where=sa.text("ordered_at < created_at"),
    )
    op.create_index(op.f("ix_messages_first_seen_at"), "messages", ["first_seen_at"])
    op.add_column(
        "installation",
        sa.Column(
            "late_orders_until",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
    )
    # Late orders were forgotten until now: those of the last month are made up for.
    op.execute("UPDATE installation SET late_orders_until = now() - interval '31 days'")
    op.execute(_COUNT_ROWS)
    for table in _COUNTED:
        _set_triggers(table, "ENABLE ALWAYS")
        op.execute(f"INSERT INTO row_counts VALUES ('{table}', -1, 0) ON CONFLICT DO NOTHING")


def downgrade() -> None:
    for table in _COUNTED:
        _set_triggers(table, "ENABLE")  # and their function stays: its totals are the same
    op.drop_column("installation", "late_orders_until")
    op.drop_index(op.f("ix_messages_first_seen_at"), table_name="messages")
    op.drop_index("ix_orders_dated_back", table_name="orders")
    op.execute("DROP FUNCTION keep_delivery_address() CASCADE")
    op.execute("DROP FUNCTION address_of(bigint)")
    op.execute("ALTER TABLE orders DROP COLUMN delivery_address")
    for table in _IDS:
        _set_types(table, "integer")


def _set_triggers(table: str, state: str) -> None:
    changes = ", ".join(f"{state} TRIGGER {trigger}" for trigger in _TRIGGERS)
    op.execute(f"ALTER TABLE {table} {changes}")


def _set_types(table: str, type_: str, first: str = "") -> None:
    changes = ", ".join(f"ALTER COLUMN {column} TYPE {type_}" for column in _IDS[table])
    op.execute(f"ALTER TABLE {table} {first}{changes}")
