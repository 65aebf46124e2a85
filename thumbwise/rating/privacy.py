"""A person's say over their words: asked once a version of the consent text, revocable, exported and erased on request.

The server holds the truth and applies it where text is about to be stored; a bot asks, tells, and shows. Erasing and
exporting need the admin's token, because a platform's user id is no secret: whoever knows it must not read with it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from thumbwise.client import AsyncThumbwise, Consent, Erasure
from thumbwise.client.calls import Channel
from thumbwise.rating.book import Marks, ReplyBook
from thumbwise.rating.conversations import Conversations

FRESH_S = 60.0
"""How long an answer of the server about somebody's consent is believed: another bot of theirs may have changed it."""
MOST_REMEMBERED = 10_000


@dataclass(slots=True)
class PrivacyDesk:
    """Consent, export and erasure of the people of one bot."""

    client: AsyncThumbwise
    channel: Channel
    book: ReplyBook
    marks: Marks
    conversations: Conversations
    clock: Callable[[], float] = time.monotonic
    _known: OrderedDict[int, tuple[float, Consent]] = field(default_factory=OrderedDict)

    async def consent(self, user: int) -> Consent:
        """Return what a person has answered."""
        if (known := self._known.get(user)) and self.clock() - known[0] < FRESH_S:
            return known[1]
        return self._remember(user, await self.client.consent(str(user), self.channel))

    async def answer(self, user: int, given: bool) -> Consent:
        """Note a person's yes or no; it counts from their next message on."""
        return self._remember(user, await self.client.give_consent(str(user), self.channel, given))

    async def should_ask(self, user: int) -> bool:
        """Say whether to ask now: never asked, or their yes was to an older text; and only once a version."""
        consent = await self.consent(user)
        if consent.consent is False or consent.in_force:
            return False
        return await self.book.first_time(f"asked {self.marks.person(user)} {consent.current_version}")

    async def export(self, user: int) -> dict[str, Any]:
        """Return everything that is stored of a person. Raises Forbidden without the admin's token."""
        return await self.client.export_rater(str(user), self.channel)

    async def forget(self, user: int) -> Erasure:
        """Erase everything that is stored of a person, here and on the server. Raises Forbidden without the token."""
        erased = await self.client.erase_rater(str(user), self.channel)
        self._known.pop(user, None)
        self.conversations.forget(str(user))
        await self.book.forget(self.marks.person(user))
        return erased

    def _remember(self, user: int, consent: Consent) -> Consent:
        self._known[user] = (self.clock(), consent)
        self._known.move_to_end(user)
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return consent
