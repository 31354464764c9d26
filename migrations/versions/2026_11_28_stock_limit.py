"""stock limit

No product may have more in stock than JSON carries exactly. `products` is locked while its rows are
read once, about a second for a million.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "a7d3e2c85b19"
down_revision: str | None = "4f0c9b6e7a21"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_check_constraint(
        op.f("ck_products_stock_limit"), "products", "stock_quantity <= 9007199254740991"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_products_stock_limit"), "products")
