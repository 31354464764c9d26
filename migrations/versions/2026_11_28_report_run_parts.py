"""the parts of report runs, with their sums

The trigger comes with the table: the release before builds days without naming it. What was built
before is added up by the next migration.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "e17c4b90d2f8"
down_revision: str | None = "b9d0f3a6c714"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# A part's rows are those of its transaction, whose time is now().
_FUNCTION = """
CREATE FUNCTION add_report_run_part() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO report_run_parts (report_date, number, orders, units, built_at)
    SELECT NEW.report_date, NEW.batches, count(*), coalesce(sum(count_product), 0), now()
    FROM reports WHERE report_at = NEW.report_date AND created_at = now();
    RETURN NULL;
END $$
"""
_TRIGGER = """
CREATE TRIGGER add_report_run_part AFTER UPDATE OF batches ON report_runs FOR EACH ROW
WHEN (NEW.batches > OLD.batches) EXECUTE FUNCTION add_report_run_part()
"""


def upgrade() -> None:
    op.create_table(
        "report_run_parts",
        sa.Column("report_date", sa.Date(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("orders", sa.BigInteger(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("built_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["report_date"],
            ["report_runs.report_date"],
            name=op.f("fk_report_run_parts_report_date"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("report_date", "number", name=op.f("pk_report_run_parts")),
    )
    op.execute(_FUNCTION)
    op.execute(_TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER add_report_run_part ON report_runs")
    op.execute("DROP FUNCTION add_report_run_part()")
    op.drop_table("report_run_parts")
