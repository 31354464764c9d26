"""the Redis that counts

Which Redis all processes use for the cache: see docs/cache.md. The table stays empty until the
first process has found one. Processes of the version before go on without it.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "c5d2e8f7a140"
down_revision: str | None = "a81c3d5e9f02"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "cache_server",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("purged", sa.ARRAY(sa.Text()), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_cache_server_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cache_server")),
    )


def downgrade() -> None:
    op.drop_table("cache_server")
