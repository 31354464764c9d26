"""Crashes at exact places, so that tests can see how a restart recovers."""

import os


class Failpoints:
    """FAIL_AT names the failpoint that kills the process as `kill -9` would; unset, none does."""

    def __init__(self, active: str | None) -> None:
        self._active = active

    def reach(self, name: str) -> None:
        if name == self._active:
            os._exit(137)
