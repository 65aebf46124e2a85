"""The waiting requests of one generation, fair between users, and the rule that bounds all of them together.

Round-robin: each user's oldest request in turn, so that one who sends a hundred delays another's single request by one,
not by a hundred. Within a user the order is first come, first served. Not thread-safe: the engine holds its lock.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Generic, TypeVar

from serving.engine import QueueFull

Item = TypeVar("Item")
RETRY_AFTER_S = (1.0, 60.0)
"""Least and most that a refused caller is told to wait."""


class FairQueue(Generic[Item]):
    """Waiting items, each of one user; None is everybody who gave no name, together."""

    def __init__(self) -> None:
        self._lanes: dict[str | None, deque[Item]] = {}
        """In the order of turns: the first lane is served next. No lane is empty."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the order in which `popleft` would return them."""
        nothing = object()
        for turn in zip_longest(*self._lanes.values(), fillvalue=nothing):
            yield from (item for item in turn if item is not nothing)  # type: ignore[misc]  # only real items are left

    def append(self, user: str | None, item: Item) -> None:
        """Add an item behind those of the same user; a user without any gets the last turn."""
        self._lanes.setdefault(user, deque()).append(item)
        self._length += 1

    def popleft(self) -> Item:
        """Take out the item whose turn it is. Raises LookupError when there is none."""
        if not self._lanes:
            raise LookupError("no request waits")
        user = next(iter(self._lanes))
        lane = self._lanes.pop(user)
        item = lane.popleft()
        self._length -= 1
        if lane:
            self._lanes[user] = lane  # behind all others
        return item

    def remove(self, item: Item) -> None:
        """Take out an item wherever it waits. Raises LookupError when it does not."""
        for user, lane in self._lanes.items():
            if item in lane:
                lane.remove(item)
                self._length -= 1
                if not lane:
                    del self._lanes[user]
                return
        raise LookupError("the request does not wait here")

    def waiting_of(self, user: str | None) -> int:
        """Return how many items of one user wait."""
        return len(self._lanes.get(user, ()))


def check_room(queues: Sequence[FairQueue[Item]], user: str | None, limit: int, wait_s: float) -> None:
    """Raise QueueFull unless one more request of `user` may wait.

    A user may take another place only while they hold fewer than are free (the dynamic threshold of Choudhury and
    Hahne 1998 with α = 1): alone at most half of all, two floods a third each. So there is room for a newcomer however
    many one user sends, and no limit per user to set. wait_s: how long requests waited lately; a refusal passes it on.
    """
    waiting = sum(map(len, queues))
    own = sum(queue.waiting_of(user) for queue in queues)
    least, most = RETRY_AFTER_S
    retry_after_s = min(max(wait_s, least), most)
    if waiting >= limit:
        raise QueueFull(retry_after_s)
    if own >= limit - waiting:
        raise QueueFull(retry_after_s, own=own)
