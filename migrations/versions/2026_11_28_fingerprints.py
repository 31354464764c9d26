"""fingerprints of messages

A column without a default: the table is locked for milliseconds, whatever its size. Rows that are
there already have no fingerprint, so a repeat of their message is recognised by its id alone.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "4e0d7ab2f6c9"
down_revision: str | None = "d47a0c9be815"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("fingerprint", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("messages", "fingerprint")
