"""Figures that cost a look at many rows, kept for a few seconds: many people looking cost as much as one.

A page gets what is known at once; when that is older than `fresh_s`, it is worked out anew behind it, so only the very
first look waits.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Memory:
    """What was worked out, by key. For one event loop at a time."""

    def __init__(self, fresh_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_s, self._clock = fresh_s, clock
        self._known: dict[Hashable, tuple[float, Any]] = {}
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    async def get(self, key: Hashable, work: Callable[[], Awaitable[T]], *, most_age_s: float = 60.0) -> T:
        """Return what `work` gave: now, or at most `most_age_s` ago. What it raises reaches who waited for it."""
        known = self._known.get(key)
        age_s = self._clock() - known[0] if known else float("inf")
        if known is not None and age_s <= self._fresh_s:
            return known[1]  # type: ignore[no-any-return]
        task = self._under_way.get(key)
        if task is None or task.done():
            task = self._under_way[key] = asyncio.ensure_future(self._work(key, work))
        if known is not None and age_s <= most_age_s:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for its error
            return known[1]  # type: ignore[no-any-return]
        return await asyncio.shield(task)

    def is_behind(self, *keys: Hashable) -> bool:
        """Say whether what `get` would give of any of them is being worked out anew: look again soon."""
        return any(key in self._known and self._clock() - self._known[key][0] > self._fresh_s for key in keys)

    def forget(self, *keys: Hashable) -> None:
        """Drop what an act has just made untrue: who acted sees it on the next page."""
        for key in keys:
            self._known.pop(key, None)
            self._under_way.pop(key, None)

    async def _work(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        found = await work()
        if len(self._known) > 200:
            self._known.clear()
        self._known[key] = (self._clock(), found)
        return found
