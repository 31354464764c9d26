"""What can go wrong, in the words of the shop.

Nothing here depends on a status code or on what becomes of a message: each door has one table for
that, `app/rest/errors.py` and `app/consumers/`. The docstrings say what these make of each error.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any


class Refusal(Exception):
    """The shop says no, and says it again until the state of the shop changes: do not just retry.

    `reason` is a word for programs, `detail` a sentence for people, `facts` what it depends on.
    Over HTTP it is a 4xx with these in the problem document. A queue message is recorded as
    rejected, with the same three."""

    reason = "refused"

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


class NotFound(Refusal):
    """What is asked for, or what the body names, does not exist. 404."""

    reason = "not-found"

    def __init__(self, what: str, identity: int | str) -> None:
        super().__init__(f"{what} {identity} does not exist")


class Duplicate(Refusal):
    """A username, email, sku or external_id is already taken. 400, with the `field`."""

    reason = "duplicate"

    def __init__(self, field: str) -> None:
        super().__init__(f"this {field} is already taken", field=field)


class OutOfStock(Refusal):
    """An order wants more of at least one product than there is, so all of it is rejected. 409;
    `short` lists for each such product `product_id`, `wanted` and `in_stock`."""

    reason = "out-of-stock"

    def __init__(self, short: Sequence[dict[str, int]]) -> None:
        names = ", ".join(
            f"product {line['product_id']} (wanted {line['wanted']}, in stock {line['in_stock']})"
            for line in short
        )
        super().__init__(f"not enough stock: {names}", short=list(short))


class TooMuchStock(Refusal):
    """A cancellation would lift a stock over the most that a product may have. 409."""

    reason = "too-much-stock"

    def __init__(self, product_id: int, limit: int) -> None:
        super().__init__(
            f"product {product_id} would have more than {limit} in stock: lower its stock first"
        )


class IllegalStep(Refusal):
    """An order's status cannot go from `now` to `wanted`. 409, with the present `status`."""

    reason = "illegal-step"

    def __init__(self, now: str, wanted: str) -> None:
        super().__init__(f"an order that is {now} cannot become {wanted}", status=now)


class NotYet(Refusal):
    """The report of a future day is asked for. 409."""

    reason = "not-yet"

    def __init__(self, day: date) -> None:
        super().__init__(f"{day} has not begun yet, so there is nothing to report")


class StillNeeded(Refusal):
    """Orders refer to the row that is to be deleted. 409."""

    reason = "still-needed"

    def __init__(self, what: str) -> None:
        super().__init__(f"orders still need this {what}")


class KeyReused(Refusal):
    """An Idempotency-Key comes again with another method, path or body. 422."""

    reason = "key-reused"

    def __init__(self) -> None:
        super().__init__(
            "this Idempotency-Key was already used for another request: send a new one"
        )


class BadCursor(Refusal):
    """`after` is damaged, of another list, or stands beside `page`. 422, with the `field`."""

    reason = "bad-cursor"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, field="after")


class VersionMismatch(Refusal):
    """`If-Match` names a version that is no longer the present one; nothing is written. 412."""

    reason = "version-mismatch"

    def __init__(self) -> None:
        super().__init__("it has been changed since you read it: read it again")


class Unavailable(Exception):
    """A dependency failed, such as a database that is away or a lock that was not granted in time.
    The same call may succeed later.

    Over HTTP it is a 503 with Retry-After, and its text is the detail. A queue message is held and
    tried again."""


class Poison(Exception):
    """A message that can never be applied; it goes to `<queue>.dead`.

    `reason` and `detail` become headers of the dead letter, and so does `field`: the path of the
    invalid field, or empty."""

    def __init__(self, reason: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.field = field
