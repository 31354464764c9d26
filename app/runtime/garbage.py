"""How often the process searches for reference cycles."""

import gc


def tune_gc() -> None:
    """Call it when a process has started: what exists by then lives as long as the process, so
    later collections skip it. A request or message allocates far fewer objects than the threshold.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)
