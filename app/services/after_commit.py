"""What a piece of work changed and others must learn after its commit."""

from dataclasses import dataclass, field
from datetime import timedelta

# Longer than any transaction may last, and a little for the difference of clocks.
RECENT = timedelta(seconds=30)


@dataclass
class Changes:
    """Cache keys to delete, products to load again, outbox rows to send."""

    deleted: set[str] = field(default_factory=set)
    refreshed_products: set[int] = field(default_factory=set)
    outbox_ids: list[int] = field(default_factory=list)
    # Another process committed the change a moment ago and may not have told the others yet.
    repeated: bool = False
