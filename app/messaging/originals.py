"""The headers of a dead letter: why it is dead, beside all that its sender wrote.

A header of the sender that could be taken for one of ours gets a prefix, which a retry removes.
"""

_PREFIX = "x-original-"
WHY = frozenset({"x-reason", "x-detail", "x-field", "x-attempts", "x-first-seen"})
# Properties that a dead letter cannot have: it would expire, and RabbitMQ checks who the user is.
EXPIRATION, USER_ID = f"{_PREFIX}expiration", f"{_PREFIX}user-id"
_OURS = WHY | {f"{_PREFIX}queue", EXPIRATION, USER_ID}
# RabbitMQ sends a message to the queues that these name too. A dead letter and a retry are for one.
_ROUTING = frozenset({"CC", "BCC"})


def kept(name: str) -> str:
    """The name that a header of the sender has in the dead letter."""
    unclear = name in _OURS or name in _ROUTING or name.startswith(_PREFIX)
    return _PREFIX + name if unclear else name


def restored(name: str) -> str | None:
    """The name that a header of the dead letter has in a retry, or None if it is ours."""
    if name in _OURS:
        return None
    original = name.removeprefix(_PREFIX)
    return name if original in _ROUTING else original
