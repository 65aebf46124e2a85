"""What a press or a word about a reply becomes on the server: one act of one rater, stored once however often it comes.

A rater is `str(the platform's user id)` on the platform's channel; the server hashes both with its own key. The
Idempotency-Key is the platform's event id, so an update that is worked on again after a crash, or delivered twice, adds
nothing. First the book is written, then the server: a repeat of the same event finds the book's answer again and does
not take an undo for a vote.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

from thumbwise.client import AsyncThumbwise, NotFound, Overloaded, Receipt
from thumbwise.client.calls import Channel, Thumb
from thumbwise.rating.book import Marks, ReplyBook, Tally
from thumbwise.rating.buttons import reply_in
from thumbwise.rating.replies import too_many_votes


@dataclass(frozen=True, slots=True)
class RatingDesk:
    """Takes acts to the server. `scope` names platform and bot, as `telegram:123`: it begins every event's key."""

    client: AsyncThumbwise
    channel: Channel
    book: ReplyBook
    marks: Marks
    scope: str

    async def thumb(
        self, reply_id: str, user: int, wanted: Thumb | None, event: str, *, toggle: bool = False
    ) -> Thumb | None:
        """Give a thumb and return the one that counts now. With `toggle` the same thumb again takes it back.

        Raises NotFound for a reply that the server does not know, and what else the client raises.
        """
        person = self.marks.person(user)
        before = await self.book.choice(reply_id, person)
        chosen = cast("Thumb | None", await self.book.choose(reply_id, person, wanted, event, toggle=toggle))
        async with self._taken_back(reply_id, person, before):
            await self.client.thumb(
                reply_id, chosen, rater=str(user), channel=self.channel, idempotency_key=self._key(event)
            )
        return chosen

    async def reason(self, reply_id: str, user: int, thumb: Thumb, reason: str, event: str) -> Receipt:
        """Give a thumb with its reason. The server keeps the reason only where the rater's consent allows."""
        person = self.marks.person(user)
        before = await self.book.choice(reply_id, person)
        await self.book.choose(reply_id, person, thumb, event, toggle=False)
        async with self._taken_back(reply_id, person, before):
            return await self.client.thumb(
                reply_id, thumb, rater=str(user), channel=self.channel, reason=reason, idempotency_key=self._key(event)
            )

    async def verdict(self, comparison_id: str, user: int, wanted: str | None, event: str) -> str | None:
        """Judge a comparison: a place ("0", "1" …), "tie", "both_bad", or None to take it back. Returns what counts."""
        person = self.marks.person(user)
        before = await self.book.choice(comparison_id, person)
        chosen = await self.book.choose(comparison_id, person, wanted, event, toggle=False)
        verdict = reply_in(comparison_id, int(chosen)) if chosen is not None and chosen.isdigit() else chosen
        async with self._taken_back(comparison_id, person, before):
            await self.client.verdict(
                comparison_id, verdict, rater=str(user), channel=self.channel, idempotency_key=self._key(event)
            )
        return chosen

    async def correct(self, reply_id: str, user: int, text: str, event: str) -> Receipt:
        """Give a better answer. Raises Forbidden where the rater has not agreed to their words being kept."""
        return await self.client.correction(
            reply_id, text, rater=str(user), channel=self.channel, idempotency_key=self._key(event)
        )

    async def own_thumb(self, reply_id: str, user: int) -> Thumb | None:
        """Return the thumb that a person has given, as far as the book knows."""
        return cast("Thumb | None", await self.book.choice(reply_id, self.marks.person(user)))

    async def tally(self, reply_id: str) -> Tally:
        """Count the thumbs on a reply, as far as the book knows."""
        return await self.book.tally(reply_id)

    @contextlib.asynccontextmanager
    async def _taken_back(self, target: str, person: str, before: str | None) -> AsyncIterator[None]:
        """What the server refuses for good leaves the book again: what is shown is what counts."""
        try:
            yield
        except NotFound:
            await self.book.choose(target, person, None, "", toggle=False)
            raise
        except Overloaded as error:
            if too_many_votes(error):
                await self.book.choose(target, person, before, "", toggle=False)
            raise

    def _key(self, event: str) -> str:
        return f"{self.scope}:{event}"
