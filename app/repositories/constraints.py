"""Which rule of the shop a violated constraint stands for."""

from sqlalchemy.exc import IntegrityError

from app.errors import Duplicate, NotFound, Refusal, StillNeeded

# An order that names a row which was deleted a moment ago, and a row deleted while orders need it,
# break the same foreign key: PostgreSQL says which of the two tables the statement was on.
_UNIQUE = {
    "uq_users_username": "username",
    "uq_users_email": "email",
    "uq_products_sku": "sku",
    "uq_orders_external_id": "external_id",
}
_FOREIGN = {
    "fk_addresses_user_id": "user",
    "fk_orders_user_id": "user",
    "fk_orders_delivery_address_id": "address",
    "fk_order_items_product_id": "product",
    "fk_stock_movements_product_id": "product",
}


def refusal_of(error: IntegrityError) -> Refusal | None:
    """None means that the violation is a bug of ours and no answer for a client."""
    cause = getattr(error.orig, "__cause__", None)
    name = getattr(cause, "constraint_name", None) or ""
    if name in _UNIQUE:
        return Duplicate(_UNIQUE[name])
    if name in _FOREIGN:
        what = _FOREIGN[name]
        still_referenced = "is still referenced" in (getattr(cause, "detail", None) or "")
        return StillNeeded(what) if still_referenced else NotFound(what, "named here")
    return None
