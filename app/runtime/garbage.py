"""How often the process searches for reference cycles."""

import gc


def start_without_gc() -> None:
    """What a process imports and builds while it starts lives as long as the process. Searching it
    for cycles again and again would take a fifth of the start. `tune_gc` ends this."""
    gc.disable()


def tune_gc() -> None:
    """Call it when a process has started: later collections skip what exists by then. A request or
    message allocates far fewer objects than the threshold."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()
