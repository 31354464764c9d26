"""How often the process looks for garbage that is tied in circles."""

import gc


def tune_gc() -> None:
    """For a process that has just started: what is here now lives as long as it does, so nobody
    need go through it again. A request or message holds far fewer objects than the threshold."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)
