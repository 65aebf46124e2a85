"""Working on stored updates: in order within a chat, presses and reactions at once, what failed for now again later.

A message waits for the one before it in its chat; a press waits for nobody, so that fifty chats that wait for slow
replies do not keep it. An update whose needs are away (our server, Telegram) is tried again with growing pauses for as
long as the process lives, and after that at its next start; one that fails for itself is given up after a few tries,
because it would fail for ever.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from telegram import Update
from telegram.error import BadRequest, Forbidden, InvalidToken, NetworkError, RetryAfter, TelegramError
from telegram.ext import Application, CallbackContext

from bot.telegram.inbox import Inbox, InboxWork
from feedback_store.bot_file import StoredUpdate
from feedback_store.errors import StoreUnavailable
from thumbwise.client import ThumbwiseError
from thumbwise.telegram.outbox import retry_after_s
from thumbwise.telegram.work import CURRENT

log = logging.getLogger(__name__)

AnyApplication = Application[Any, Any, Any, Any, Any, Any]
MOST_UNDER_WAY = 2_000
"""From here on no more updates are asked for until some are done: Telegram keeps them."""
PRESSES_AT_ONCE, MESSAGES_AT_ONCE = 24, 200
"""Worked on at the same time; the others wait for their turn. A thousand at once, as after a restart, shared so many
connections that each of them ran into its time-out (seen: 26 calls in a minute). A press takes milliseconds, a message
waits for its reply, so each kind has places of its own."""
TRIES_OF_ITS_OWN_FAULT = 3
LONGEST_PAUSE_S = 30.0
OLDEST_S = 24 * 3600.0
"""An update that could not be worked on for a day is given up: nobody waits for its effect any more."""


class Dispatcher:
    """Works on the updates of one bot."""

    def __init__(self, application: AnyApplication, inbox: Inbox, clock: Callable[[], float] = time.monotonic) -> None:
        self._application, self._inbox, self._clock = application, inbox, clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._tails: dict[int, asyncio.Task[None]] = {}
        """The last message's task of each chat."""
        self._places = {True: asyncio.Semaphore(MESSAGES_AT_ONCE), False: asyncio.Semaphore(PRESSES_AT_ONCE)}
        self._room = asyncio.Event()
        self._room.set()
        self.token_refused = asyncio.Event()
        self.done = 0
        application.add_error_handler(self._on_error)

    def add(self, stored: StoredUpdate) -> None:
        """Begin to work on an update. Call it in the order in which they came."""
        raw = _raw_of(stored)
        chat = _chat_in_order(raw)
        former = self._tails.get(chat) if chat is not None else None
        task = asyncio.create_task(self._work_on(stored.update_id, raw, former))
        self._tasks.add(task)
        if chat is not None:
            self._tails[chat] = task
        task.add_done_callback(lambda ended: self._ended(ended, chat))
        if len(self._tasks) >= MOST_UNDER_WAY:
            self._room.clear()

    async def room(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()

    @property
    def under_way(self) -> int:
        """How many updates are being worked on."""
        return len(self._tasks)

    async def close(self, within_s: float) -> None:
        """Let what is under way end, then cut it off: it stays in the inbox."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=within_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work_on(self, update_id: int, raw: dict[str, Any], former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait({former})
        began = self._clock()
        faults = 0
        pause_s = 0.5
        while self._clock() - began < OLDEST_S:
            async with self._places[_chat_in_order(raw) is not None]:
                error = await self._try(update_id, raw)
            if error is None:
                break
            if isinstance(error, ThumbwiseError | StoreUnavailable | NetworkError | RetryAfter):
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
                if isinstance(error, RetryAfter):
                    pause_s = retry_after_s(error)
            else:
                faults += 1
                if faults >= TRIES_OF_ITS_OWN_FAULT:
                    log.error("an update is given up update=%d cause=%s", update_id, type(error).__name__)
                    break
            await asyncio.sleep(pause_s)
        await self._finish(update_id)

    async def _try(self, update_id: int, raw: dict[str, Any]) -> Exception | None:
        """Work on an update once; return what it must be tried again for."""
        work = self._inbox.work(update_id)
        token = CURRENT.set(work)
        try:
            update = Update.de_json(raw, self._application.bot)
            await self._application.process_update(update)
        except Exception as error:  # what not even the error handler saw: an update that cannot be read
            log.warning("an update failed update=%d cause=%s", update_id, type(error).__name__)
            return error
        finally:
            CURRENT.reset(token)
        return work.error

    async def _finish(self, update_id: int) -> None:
        while True:
            try:
                await self._inbox.finish(update_id)
            except StoreUnavailable as error:
                log.warning("the inbox cannot be written cause=%s", type(error).__name__)
                await asyncio.sleep(1.0)
            else:
                self.done += 1
                return

    async def _on_error(self, update: object, context: CallbackContext[Any, Any, Any, Any]) -> None:
        """Decide what an exception of a handler means for its update."""
        error, work = context.error, CURRENT.get()
        if not isinstance(error, Exception) or not isinstance(work, InboxWork):
            return
        if isinstance(error, InvalidToken):
            self.token_refused.set()
            work.put_off(error)
        elif isinstance(error, Forbidden):
            log.info("a chat has shut the bot out update=%s", work.event)
        elif isinstance(error, BadRequest):
            log.warning("telegram refused what was sent update=%s cause=%s", work.event, error.message)
        elif isinstance(error, TelegramError | ThumbwiseError | StoreUnavailable):
            log.info("an update is put off update=%s cause=%s", work.event, type(error).__name__)
            work.put_off(error)
        else:
            log.error("a handler failed update=%s", work.event, exc_info=error)
            work.put_off(error)

    def _ended(self, task: asyncio.Task[None], chat: int | None) -> None:
        self._tasks.discard(task)
        if chat is not None and self._tails.get(chat) is task:
            del self._tails[chat]
        if len(self._tasks) < MOST_UNDER_WAY:
            self._room.set()
        with contextlib.suppress(asyncio.CancelledError):
            if error := task.exception():
                log.error("the work on an update broke off cause=%s", type(error).__name__)


def _raw_of(stored: StoredUpdate) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(stored.content)
    return raw


def _chat_in_order(raw: dict[str, Any]) -> int | None:
    """Return the chat whose order an update keeps: only messages do."""
    message = raw.get("message")
    chat = message.get("chat") if isinstance(message, dict) else None
    return chat.get("id") if isinstance(chat, dict) else None
