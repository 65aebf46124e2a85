"""Taking turns: whoever holds the lock of a place is the one who speaks there, and the others wait in their order."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST_PLACES = 10_000


class Turns:
    """A lock a place. asyncio's locks are fair: who came first speaks first."""

    def __init__(self, most: int = MOST_PLACES) -> None:
        self._most = most
        self._locks: OrderedDict[Hashable, asyncio.Lock] = OrderedDict()

    def at(self, place: Hashable) -> asyncio.Lock:
        """Return the lock of a place. Those that nobody holds are forgotten when there are too many."""
        lock = self._locks.setdefault(place, asyncio.Lock())
        self._locks.move_to_end(place)
        if len(self._locks) > self._most:
            free = [known for known, other in self._locks.items() if known != place and not other.locked()]
            for known in free[: self._most // 10]:
                del self._locks[known]
        return lock

    async def over(self, here: Callable[[Hashable], bool]) -> None:
        """Wait until whoever speaks now at such a place has ended: what stands there then is noted."""
        for place, lock in list(self._locks.items()):
            if lock.locked() and here(place):
                async with lock:
                    pass
