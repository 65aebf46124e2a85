"""Sending within Telegram's limits: what must arrive waits for its turn, what may be left out is left out.

A group takes 20 messages a minute, edits counted; a flood is answered with 429 and a time to wait, which holds for that
chat. A reply, an answer to a command and a last edit wait and are sent again; a draft or an edit on the way is dropped
when there is no room, and the next one shows more anyway.
"""

import asyncio
import datetime
import logging
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
from telegram.error import BadRequest, Forbidden, NetworkError, RetryAfter, TelegramError

log = logging.getLogger(__name__)

T = TypeVar("T")
Send = Callable[[], Awaitable[T]]
GROUP_LIMIT, GROUP_WINDOW_S = 20, 60.0
GROUP_ROOM = 12
"""Sends of a group's minute that edits on the way may use up; the rest is for what must arrive."""
MOST_TRIES = 6
MOST_CHATS = 10_000
LONGEST_WAIT_S = 300.0


def retry_after_s(error: RetryAfter) -> float:
    """Return the seconds to wait, whichever type this version of the library gives them as."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wait = error.retry_after
    return wait.total_seconds() if isinstance(wait, datetime.timedelta) else float(wait)


class Outbox:
    """Everything that is sent to chats goes through here. One per bot."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until: dict[int, float] = {}
        self._sent: OrderedDict[int, deque[float]] = OrderedDict()
        self.floods = 0
        """How often Telegram said that it was too much."""

    async def send(self, chat: int, send: Send[T]) -> T:
        """Send what must arrive: waits for its turn and tries again after a 429 or a failed connection."""
        for attempt in range(MOST_TRIES):
            await self._turn(chat)
            try:
                return await send()
            except RetryAfter as error:
                self._flooded(chat, error)
                if attempt == MOST_TRIES - 1:
                    raise
            except NetworkError as error:
                if isinstance(error, BadRequest) or not _never_sent(error) or attempt == MOST_TRIES - 1:
                    raise
                await asyncio.sleep(min(8.0, 0.25 * 2**attempt))
        raise AssertionError("unreachable: the last try returns or raises")

    async def try_to_send(self, chat: int, send: Send[T]) -> T | None:
        """Send what may be left out; None when it was."""
        if self._clock() < self._quiet_until.get(chat, 0.0) or self._used(chat) >= GROUP_ROOM:
            return None
        self._count(chat)
        try:
            return await send()
        except RetryAfter as error:
            self._flooded(chat, error)
        except TelegramError as error:
            log.debug("left out chat_kind=%s cause=%s", _kind(chat), type(error).__name__)
        return None

    async def edit(self, chat: int, send: Send[object]) -> None:
        """Send an edit that must arrive, unless it is about nothing (see `harmless`)."""
        await harmless(self.send(chat, send))

    def _flooded(self, chat: int, error: RetryAfter) -> None:
        self.floods += 1
        wait_s = min(retry_after_s(error), LONGEST_WAIT_S)
        self._quiet_until[chat] = self._clock() + wait_s
        log.info("telegram asks to wait chat_kind=%s wait_s=%.1f", _kind(chat), wait_s)
        for known in [known for known, until in self._quiet_until.items() if until < self._clock()]:
            del self._quiet_until[known]

    async def _turn(self, chat: int) -> None:
        while True:
            wait_s = self._quiet_until.get(chat, 0.0) - self._clock()
            if wait_s <= 0 and self._used(chat) >= GROUP_LIMIT:
                wait_s = self._sent[chat][0] + GROUP_WINDOW_S - self._clock()
            if wait_s <= 0:
                self._count(chat)
                return
            await asyncio.sleep(wait_s)

    def _used(self, chat: int) -> int:
        if chat > 0 or chat not in self._sent:  # a private chat has a user's number, which is positive
            return 0
        sent = self._sent[chat]
        while sent and sent[0] <= self._clock() - GROUP_WINDOW_S:
            sent.popleft()
        return len(sent)

    def _count(self, chat: int) -> None:
        if chat > 0:
            return
        self._sent.setdefault(chat, deque()).append(self._clock())
        self._sent.move_to_end(chat)
        while len(self._sent) > MOST_CHATS:
            self._sent.popitem(last=False)


async def harmless(sending: Awaitable[T]) -> T | None:
    """Await an edit that may be about nothing: not modified, gone, too old, or in a chat that shut us out."""
    try:
        return await sending
    except (BadRequest, Forbidden) as error:
        log.debug("an edit came to nothing cause=%s", type(error).__name__)
    except NetworkError as error:
        log.info("an edit was lost cause=%s", type(error).__name__)
    return None


def _never_sent(error: NetworkError) -> bool:
    """Whether a request cannot have reached Telegram: sending it again cannot send it twice."""
    return isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def _kind(chat: int) -> str:
    return "private" if chat > 0 else "group"
