"""What can go wrong, in the words of the shop."""

from collections.abc import Sequence
from datetime import date
from typing import Any


class Refusal(Exception):
    """The shop says no. Asking again changes nothing until the state of the shop changes."""

    reason = "refused"

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


class NotFound(Refusal):
    reason = "not-found"

    def __init__(self, what: str, identity: int | str) -> None:
        super().__init__(f"{what} {identity} does not exist")


class Duplicate(Refusal):
    reason = "duplicate"

    def __init__(self, field: str) -> None:
        super().__init__(f"this {field} is already taken", field=field)


class OutOfStock(Refusal):
    reason = "out-of-stock"

    def __init__(self, short: Sequence[dict[str, int]]) -> None:
        names = ", ".join(
            f"product {line['product_id']} (wanted {line['wanted']}, in stock {line['in_stock']})"
            for line in short
        )
        super().__init__(f"not enough stock: {names}", short=list(short))


class IllegalStep(Refusal):
    reason = "illegal-step"

    def __init__(self, now: str, wanted: str) -> None:
        super().__init__(f"an order that is {now} cannot become {wanted}", status=now)


class NotYet(Refusal):
    reason = "not-yet"

    def __init__(self, day: date) -> None:
        super().__init__(f"{day} has not begun yet, so there is nothing to report")


class StillNeeded(Refusal):
    reason = "still-needed"

    def __init__(self, what: str) -> None:
        super().__init__(f"orders still need this {what}")


class KeyReused(Refusal):
    reason = "key-reused"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key came with another request: use a new one")


class VersionMismatch(Refusal):
    reason = "version-mismatch"

    def __init__(self) -> None:
        super().__init__("it has been changed since you read it: read it again")


class Unavailable(Exception):
    """The surroundings failed (database away, lock not granted): the call may succeed later."""


class Poison(Exception):
    """A message that can never be applied. `field` is the path of what is wrong with it."""

    def __init__(self, reason: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.field = field
