import time

# It goes on while the machine is suspended, so nothing looks young after that.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on the clock of the trust window."""
    return time.clock_gettime(_CLOCK)
