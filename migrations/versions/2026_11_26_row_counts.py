"""row counts"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "b1f0a6d3c5e2"
down_revision: str | None = "6c2104d47cf7"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_TABLES = ("users", "products", "orders")

# The slot is the last seven bits of the backend's process id. Two connections that agree in them
# share a slot, and one waits for the other's commit; with a single row, all would.
_FUNCTION = """
CREATE FUNCTION count_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM row_counts WHERE table_name = TG_TABLE_NAME;
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
_INSERTED = "AFTER INSERT ON {table} REFERENCING NEW TABLE AS changed"
_DELETED = "AFTER DELETE ON {table} REFERENCING OLD TABLE AS changed"
_TRUNCATED = "AFTER TRUNCATE ON {table}"
_TRIGGERS = {"inserted": _INSERTED, "deleted": _DELETED, "truncated": _TRUNCATED}


def upgrade() -> None:
    op.create_table(
        "row_counts",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("table_name", "slot", name=op.f("pk_row_counts")),
        # Leaves room in the page for a row's next version, so that updates do not write the index.
        postgresql_with={"fillfactor": 50},
    )
    op.execute(_FUNCTION)
    for table in _TABLES:
        for name, when in _TRIGGERS.items():
            op.execute(
                f"CREATE TRIGGER count_{name} {when.format(table=table)} "
                "FOR EACH STATEMENT EXECUTE FUNCTION count_rows()"
            )
        # CREATE TRIGGER locks the table until the commit, so no row is missed or counted twice.
        op.execute(f"INSERT INTO row_counts SELECT '{table}', 0, count(*) FROM {table}")


def downgrade() -> None:
    op.drop_table("row_counts")
    op.execute("DROP FUNCTION count_rows() CASCADE")
