"""Streams whose rows are not committed yet, so that an act on one waits for its row instead of being refused.

A reader who stops a stream has the reply's id from its first event, and may rate what they saw before this server has
heard that they left and committed it.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_WAIT_S = 10.0
"""The engine stops a reply within two steps; this is for a machine that is busy with other things."""


class RepliesUnderWay:
    """The streams of this process, by their completion's id. For the event loop's thread alone."""

    def __init__(self) -> None:
        self._ended: dict[str, asyncio.Event] = {}

    @contextmanager
    def streaming(self, completion_id: str) -> Iterator[None]:
        """Within it, the completion's rows are still to come; afterwards they are committed, or never will be."""
        ended = self._ended[completion_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._ended[completion_id]
            ended.set()

    async def settled(self, target_id: str) -> bool:
        """Wait until the stream that a reply or comparison is of has ended. False when it is of none under way, or the
        wait was long: then nothing has changed."""
        ended = self._ended.get(target_id) or self._ended.get(target_id.rpartition("-")[0])
        if ended is None:
            return False
        try:
            await asyncio.wait_for(ended.wait(), LONGEST_WAIT_S)
        except TimeoutError:
            return False
        return True
