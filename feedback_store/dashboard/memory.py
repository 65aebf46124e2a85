"""Figures that cost a look at many rows, kept for a few seconds: many people looking cost as much as one.

A page gets what is known at once; when that is older than `fresh_s`, it is worked out anew behind it, so only the very
first look waits, and with `soon` not even that. What took long to work out is kept for longer: the figures of a large
store may cost seconds of a processor, and must not cost them all the time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import nullcontext
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
KEPT_TIMES_ITS_COST = 30.0
"""At most a thirtieth of one core goes into one key's figures, however many people look."""


class Memory:
    """What was worked out, by key. For one event loop at a time."""

    def __init__(self, fresh_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_s, self._clock = fresh_s, clock
        self._known: dict[Hashable, tuple[float, float, Any]] = {}
        """Key → when it was known, how many seconds that took, what it is."""
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def get(
        self, key: Hashable, work: Callable[[], Awaitable[T]], *, most_age_s: float = 60.0, in_turn: bool = False
    ) -> T:
        """Return what `work` gave: now, or at most `most_age_s` ago (longer where it is costly). What it raises reaches
        who waited for it. in_turn: not while another such work is under way."""
        known = self._known.get(key)
        age_s = self._clock() - known[0] if known else float("inf")
        kept_s = KEPT_TIMES_ITS_COST * known[1] if known else 0.0
        if known is not None and age_s <= self._fresh_for(known[1]):
            return known[2]  # type: ignore[no-any-return]
        task = self._under_way.get(key)
        if task is None or task.done():
            task = self._under_way[key] = asyncio.ensure_future(self._work(key, work, in_turn))
        if known is not None and age_s <= max(most_age_s, 2 * kept_s):
            task.add_done_callback(_let_go)
            return known[2]  # type: ignore[no-any-return]
        return await asyncio.shield(task)

    def is_behind(self, key: Hashable) -> bool:
        """Say whether what `get` would give is known but old, to be worked out anew behind it: look again soon."""
        known = self._known.get(key)
        return known is not None and self._clock() - known[0] > self._fresh_for(known[1])

    async def soon(self, key: Hashable, work: Callable[[], Awaitable[T]], *, patience_s: float) -> T | None:
        """`get`, but None when nothing is known within `patience_s`: the work goes on, for the next look. One such work
        at a time: threads that compute share one interpreter with the page that is to be drawn meanwhile."""
        waiting = asyncio.ensure_future(self.get(key, work, in_turn=True))
        done, _ = await asyncio.wait({waiting}, timeout=patience_s)
        if not done:
            waiting.add_done_callback(_let_go)
            return None
        return waiting.result()

    def _fresh_for(self, cost_s: float) -> float:
        """For how many seconds figures that took `cost_s` to work out are not worked out anew."""
        return max(self._fresh_s, KEPT_TIMES_ITS_COST * cost_s)

    def forget(self, *keys: Hashable) -> None:
        """Drop what an act has just made untrue: who acted sees it on the next page."""
        for key in keys:
            self._known.pop(key, None)
            self._under_way.pop(key, None)

    async def _work(self, key: Hashable, work: Callable[[], Awaitable[T]], in_turn: bool) -> T:
        turn = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()) if in_turn else nullcontext()
        async with turn:
            begun = self._clock()
            found = await work()
        if len(self._known) > 200:
            self._known.clear()
        self._known[key] = (self._clock(), self._clock() - begun, found)
        return found


def _let_go(done: asyncio.Future[Any]) -> None:
    """Nobody waits for it: its error is looked at here, or asyncio would complain."""
    if not done.cancelled():
        done.exception()
