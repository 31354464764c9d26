"""Crashes at exact places, so that tests can see what a restart makes of them."""

import os


class Failpoints:
    """FAIL_AT names the one that kills the process as `kill -9` would; unset, none does."""

    def __init__(self, active: str | None) -> None:
        self._active = active

    def reach(self, name: str) -> None:
        if name == self._active:
            os._exit(137)
