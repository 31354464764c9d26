"""the sums of the report days that were built before

A day at a time, while others build: each row of `reports` is read once.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import context, op

revision: str = "2b6fd81a05ce"
down_revision: str | None = "e17c4b90d2f8"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# The rows of a part have the time of its transaction. The last part has the last number; a first
# part without rows leaves no trace, and adds nothing to a sum.
_FILL = sa.text("""
WITH day AS (
    SELECT report_date, batches FROM report_runs
    WHERE report_date > :last ORDER BY report_date LIMIT 1
), parts AS (
    SELECT created_at, count(*) AS orders, sum(count_product) AS units
    FROM reports JOIN day ON report_at = report_date GROUP BY created_at
), filled AS (
    INSERT INTO report_run_parts (report_date, number, orders, units, built_at)
    SELECT report_date, batches - count(*) OVER () + row_number() OVER (ORDER BY created_at),
        orders, units, created_at
    FROM parts, day
    ON CONFLICT DO NOTHING
)
SELECT report_date FROM day
""").bindparams(sa.bindparam("last", type_=sa.Date()))


def upgrade() -> None:
    if context.is_offline_mode():  # nothing is there yet
        return
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        last = connection.scalar(sa.text("SELECT min(report_date) - 1 FROM report_runs"))
        while last is not None:
            last = connection.scalar(_FILL, {"last": last})


def downgrade() -> None:
    pass
