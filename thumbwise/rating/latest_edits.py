"""Edits of the keys below a message: the newest one alone, at most one a second. A thousand clicks are ten edits."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

MakeEdit = Callable[[], Awaitable[Callable[[], Awaitable[object]]]]
"""Looks up how things stand and returns the edit that shows it."""
SendEdit = Callable[[int, Callable[[], Awaitable[object]]], Awaitable[object]]
"""Sends an edit to a chat, within the platform's limits. It is given a function that it may call again, and what that
raises for being about nothing (gone, not modified, no access) is its affair."""
MOST_MESSAGES = 10_000


class LatestEdits:
    """The edits of one bot."""

    def __init__(self, send: SendEdit, every_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._every_s, self._clock = send, every_s, clock
        self._edited_at: OrderedDict[tuple[int, int], float] = OrderedDict()
        self._waiting: dict[tuple[int, int], MakeEdit] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def edit(self, chat: int, message: int, make: MakeEdit) -> None:
        """Edit now, or soon if this message was edited just now. `make` is called then: it sees the newest state."""
        key = (chat, message)
        if key in self._waiting:
            self._waiting[key] = make
            return
        since_s = self._clock() - self._edited_at.get(key, -1e9)
        if since_s >= self._every_s:
            await self._edit(key, make)
            return
        self._waiting[key] = make
        task = asyncio.create_task(self._later(key, self._every_s - since_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Make the edits that wait, now."""
        waiting, self._waiting = self._waiting, {}
        for task in self._tasks:
            task.cancel()
        for key, make in waiting.items():
            await self._edit(key, make)

    async def _later(self, key: tuple[int, int], wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        make = self._waiting.pop(key)
        try:
            await self._edit(key, make)
        except Exception as error:  # nobody waits for this one; the next press shows how things stand
            log.info("an edit was lost cause=%s", type(error).__name__)

    async def _edit(self, key: tuple[int, int], make: MakeEdit) -> None:
        self._edited_at[key] = self._clock()
        self._edited_at.move_to_end(key)
        while len(self._edited_at) > MOST_MESSAGES:
            self._edited_at.popitem(last=False)

        async def send() -> object:
            return await (await make())()  # looked up anew at each try: an edit that had to wait is not an old one

        await self._send(key[0], send)
