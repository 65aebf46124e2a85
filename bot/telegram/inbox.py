"""The updates of one bot: stored before they are confirmed, gone when they are done."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from feedback_store import bot_file
from feedback_store.bot_file import StoredUpdate
from feedback_store.store import Store

Raw = Mapping[str, Any]
"""An update as Telegram sends it."""


class Inbox:
    """The inbox of one bot in its file."""

    def __init__(self, file: Store, bot_id: int) -> None:
        self._file, self._bot_id = file, bot_id

    async def take(self, updates: Sequence[Raw]) -> list[StoredUpdate]:
        """Store updates and return those that are new. After this returns they may be confirmed.

        Raises StoreUnavailable when they could not be stored: then they must not be.
        """
        rows = [(int(update["update_id"]), json.dumps(update)) for update in updates]
        new = set(await self._file.write_async(bot_file.add_updates, self._bot_id, rows))
        return [StoredUpdate(update_id, content) for update_id, content in rows if update_id in new]

    async def undone(self) -> list[StoredUpdate]:
        """Return what was stored and not finished: by a process that is no more."""
        return await self._file.write_async(bot_file.undone_updates, self._bot_id)

    async def finish(self, update_id: int) -> None:
        """Note that an update is done, and delete what it said."""
        await self._file.write_async(bot_file.finish_update, self._bot_id, update_id)

    def work(self, update_id: int) -> "InboxWork":
        """Return the work on an update, with what earlier tries left behind."""
        return InboxWork(self._file, self._bot_id, update_id)


class InboxWork:
    """The work on one update. It satisfies `thumbwise.telegram.work.Work`."""

    def __init__(self, file: Store, bot_id: int, update_id: int) -> None:
        self._file, self._bot_id, self._update_id = file, bot_id, update_id
        self.event = str(update_id)
        self.error: Exception | None = None
        """Why the update has to be worked on again; None while nothing says so."""

    async def step(self, name: str) -> str | None:
        return await self._file.write_async(bot_file.step_of, self._bot_id, self._update_id, name)

    async def note(self, name: str, value: str) -> None:
        await self._file.write_async(bot_file.set_step, self._bot_id, self._update_id, name, value)

    def put_off(self, error: Exception) -> None:
        self.error = error
