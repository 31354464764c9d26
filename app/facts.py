"""What can happen in the shop that others must learn of after the commit."""

from enum import StrEnum


class Fact(StrEnum):
    """Services record facts; `app/cache` maps them to what it must delete or load again."""

    USER_CHANGED = "user changed"
    USER_DELETED = "user deleted"
    PRODUCT_UPDATED = "product updated"
    PRODUCT_DELETED = "product deleted"
    STOCK_CHANGED = "stock changed"
