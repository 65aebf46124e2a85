"""Drawing a reply for a chat: text as it grows, told to the platform no more often than the platform can take.

The reading of the stream never waits for the platform: a `show` that is slow, or is told to wait, misses pieces and
gets the newest text next time. What goes wrong is raised as the client's errors; `trouble` says it to a person.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from thumbwise.client import (
    Answer,
    ApiError,
    AsyncThumbwise,
    Overloaded,
    StreamEnd,
    StreamPiece,
    ThumbwiseError,
    Unavailable,
    Unreachable,
)
from thumbwise.client.calls import Channel
from thumbwise.rating.conversations import Conversation
from thumbwise.rating.texts import Texts

T = TypeVar("T")
Show = Callable[[str], Awaitable[None]]
"""Told the text so far. What it raises is not the reply's affair and ends nothing."""
MOST_SHORTENINGS = 6
TRIES_WHEN_BUSY = 3
LONGEST_BUSY_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A whole reply. `reply_id` is None while the server's store is away: it cannot be rated then."""

    text: str
    reply_id: str | None
    policy_version: int
    finish_reason: str


@dataclass(frozen=True, slots=True)
class ReplyDesk:
    """Draws replies for the people of one bot."""

    client: AsyncThumbwise
    channel: Channel

    async def draw(
        self, conversation: Conversation, text: str, user: int, show: Show | None = None, every_s: float = 1.0
    ) -> Drawn:
        """Draw a reply to a new message, and add both to the conversation. `show` is told how it grows."""

        async def once() -> Drawn:
            return await self._stream(conversation, conversation.prompt(text), user, show, every_s)

        return await self._shortened_to_fit(conversation, once)

    async def again(
        self, conversation: Conversation, user: int, show: Show | None = None, every_s: float = 1.0
    ) -> Drawn | None:
        """Draw another reply to what the last one answered; None where nothing was said."""
        prompt = conversation.prompt_of_last_reply()
        return None if prompt is None else await self._stream(conversation, prompt, user, show, every_s)

    async def pair(self, conversation: Conversation, text: str, user: int) -> Answer:
        """Draw two replies to choose from. The conversation goes on from the first until one is chosen."""

        async def once() -> Answer:
            prompt = conversation.prompt(text)
            answer = await self.client.chat(
                prompt,
                n=2,
                compare=True,
                user=str(user),
                channel=self.channel,
                conversation_id=conversation.conversation_id,
            )
            conversation.add_turn(prompt, answer.text, answer.reply_id)
            return answer

        return await self._shortened_to_fit(conversation, once)

    async def _stream(
        self, conversation: Conversation, prompt: list[dict[str, str]], user: int, show: Show | None, every_s: float
    ) -> Drawn:
        text = ""
        end: StreamEnd | None = None
        async with _shown(lambda: text, show, every_s):
            stream = self.client.stream(
                prompt, user=str(user), channel=self.channel, conversation_id=conversation.conversation_id
            )
            async for part in stream:
                if isinstance(part, StreamPiece):
                    text += part.text
                else:
                    end = part
        if end is None:
            raise Unreachable("the reply broke off before its end")
        drawn = Drawn(text, end.reply_ids[0] if end.reply_ids else None, end.policy_version, end.finish_reasons[0])
        conversation.add_turn(prompt, drawn.text, drawn.reply_id)
        return drawn

    async def _shortened_to_fit(self, conversation: Conversation, draw: Callable[[], Awaitable[T]]) -> T:
        for _ in range(MOST_SHORTENINGS):
            try:
                return await draw()
            except ApiError as error:
                if not is_too_long(error) or not conversation.shorten():
                    raise
        return await draw()


async def patiently(draw: Callable[[], Awaitable[T]]) -> T:
    """Try again for a little while where the server is busy or about to be up; then say so."""
    for attempt in range(TRIES_WHEN_BUSY):
        try:
            return await draw()
        except (Overloaded, Unavailable) as error:
            if attempt == TRIES_WHEN_BUSY - 1:
                raise
            await asyncio.sleep(min(error.retry_after_s or 1.0, LONGEST_BUSY_WAIT_S))
    raise AssertionError("unreachable: the last try returns or raises")


def is_too_long(error: ApiError) -> bool:
    """Say whether the server refused because the conversation does not fit the model."""
    return error.status in (400, 413) and error.code in ("context_length_exceeded", "body_too_large")


def too_many_votes(error: Exception) -> bool:
    """Say whether the server refused a vote because its rater gives too many at once."""
    return isinstance(error, Overloaded) and error.code == "too_many_votes"


def passes(error: ThumbwiseError) -> bool:
    """Say whether an error will be over by itself, so that the same request is worth sending again. Not where somebody
    votes too fast: to send that again and again would be more of it."""
    if too_many_votes(error):
        return False
    return isinstance(error, Unreachable | Overloaded) or (isinstance(error, ApiError) and error.status >= 500)


def trouble(texts: Texts, error: Exception) -> str:
    """Say to a person why there is no answer, without a word about addresses, tokens or stack traces."""
    if too_many_votes(error):
        return texts.say("That was faster than I can count, so this one is not counted. Please try again in a moment.")
    if isinstance(error, Overloaded):
        return texts.say("Many people are asking at once. Please try again in a moment.")
    if isinstance(error, Unreachable | Unavailable):
        return texts.say("I cannot reach my model right now. Please try again in a little while.")
    if isinstance(error, ApiError) and is_too_long(error):
        return texts.say("That is too long for me. Please send less at once, or begin anew with /new.")
    return texts.say("Something went wrong. Please try again.")


@contextlib.asynccontextmanager
async def _shown(text_now: Callable[[], str], show: Show | None, every_s: float) -> AsyncIterator[None]:
    """Tell `show` the text every `every_s` seconds while it grows."""
    if show is None:
        yield
        return

    async def tell() -> None:
        told = ""
        while True:
            await asyncio.sleep(every_s)
            if (text := text_now()) != told and text.strip():
                told = text
                with contextlib.suppress(Exception):  # see Show
                    await show(text)

    teller = asyncio.create_task(tell())
    try:
        yield
    finally:
        teller.cancel()
        await asyncio.gather(teller, return_exceptions=True)
