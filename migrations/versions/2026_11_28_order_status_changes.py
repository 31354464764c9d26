"""the times of status changes

The trigger comes with the table: the release before changes statuses without naming it. Placing an
order writes nothing here. The table is new, so its foreign key locks `orders` for milliseconds.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "93c5e7a1d64b"
down_revision: str | None = "2b6fd81a05ce"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_FUNCTION = """
CREATE FUNCTION keep_status_change() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO order_status_changes (order_id, status) VALUES (NEW.id, NEW.status);
    RETURN NULL;
END $$
"""
_TRIGGER = """
CREATE TRIGGER keep_status_change AFTER UPDATE OF status ON orders FOR EACH ROW
WHEN (NEW.status <> OLD.status) EXECUTE FUNCTION keep_status_change()
"""


def upgrade() -> None:
    op.create_table(
        "order_status_changes",
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.id"],
            name=op.f("fk_order_status_changes_order_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("order_id", "id", name=op.f("pk_order_status_changes")),
    )
    op.execute(_FUNCTION)
    op.execute(_TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER keep_status_change ON orders")
    op.execute("DROP FUNCTION keep_status_change()")
    op.drop_table("order_status_changes")
