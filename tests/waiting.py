"""Waiting for what another thread, process or page brings about: one way for every test."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

LOOK_EVERY_S = 0.01
PATIENCE_S = 60.0
"""Far more than any of it takes: a test that fails here says that it never came, not that the machine was busy."""


def until(condition: Callable[[], Any], what: str = "", within_s: float = PATIENCE_S) -> Any:
    """Ask until the answer is true, and return it. Raises AssertionError with `what` when it never is.

    Counted in looks: time in which the whole machine stood still is nobody's failure."""
    looks = within_s / LOOK_EVERY_S
    while not (found := condition()):
        assert (looks := looks - 1) >= 0, f"waited {within_s:.0f} s in vain for {what or condition}"
        time.sleep(LOOK_EVERY_S)
    return found


async def until_async(condition: Callable[[], Any], what: str = "", within_s: float = PATIENCE_S) -> Any:
    """The same beside an event loop, which goes on meanwhile."""
    return await asyncio.to_thread(until, condition, what, within_s)
