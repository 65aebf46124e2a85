"""The book of a bot that we run: `thumbwise.rating.book.ReplyBook` over the bot's own file, so that it outlives it."""

from typing import cast

from feedback_store import bot_file
from feedback_store.store import Store
from thumbwise.rating.book import Shown, ShownKind, Tally


class FileBook:
    """A book kept in a bot's file (`feedback_store.bot_file`). It satisfies `ReplyBook`."""

    def __init__(self, file: Store) -> None:
        self._file = file

    async def show(self, message: str, shown: Shown) -> None:
        await self._file.write_async(bot_file.show, message, shown.kind, shown.target, shown.owner)

    async def shown(self, message: str) -> Shown | None:
        found = await self._file.write_async(bot_file.shown_as, message)
        return None if found is None else Shown(cast("ShownKind", found[0]), found[1], found[2])

    async def choose(self, target: str, person: str, choice: str | None, event: str, *, toggle: bool) -> str | None:
        return await self._file.write_async(bot_file.choose, target, person, choice, event, toggle)

    async def choice(self, target: str, person: str) -> str | None:
        return await self._file.write_async(bot_file.choice_of, target, person)

    async def tally(self, target: str) -> Tally:
        counts = await self._file.write_async(bot_file.count_choices, target)
        return Tally(tuple(sorted(counts.items())))

    async def first_time(self, note: str) -> bool:
        return await self._file.write_async(bot_file.first_time, note)

    async def forget(self, person: str) -> None:
        await self._file.write_async(bot_file.forget_person, person)
