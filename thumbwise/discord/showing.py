"""How a reply is shown: edited while it grows, in parts when it is long, its buttons below the last part.

Discord takes about five edits in five seconds of a channel, and no more than one of a message a second is read by
anybody. So a growing reply is one message that is edited every `edit_every_s`, `most_edits` times at most, and what
does not fit into one message comes as further ones at the end.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import discord

from thumbwise.discord.keyboards import view_of
from thumbwise.discord.outbox import FAILURES, MOST_UNITS, QUIET
from thumbwise.discord.parts import AnyInteraction, Parts, channel_of, texts_of_server
from thumbwise.rating.book import Shown, Tally
from thumbwise.rating.cards import Card, rating_card
from thumbwise.rating.plain_text import clean, split_text, utf16_length
from thumbwise.rating.texts import Texts

TYPING_EVERY_S = 8.0
"""Discord shows "is typing" for ten seconds."""
MORE_COMES = " …"
AnyMessage = discord.Message | discord.WebhookMessage
AnyView = discord.ui.View | discord.ui.LayoutView


class Sender(Protocol):
    """Sends one message to where a reply is shown."""

    async def __call__(self, content: str | None, view: AnyView | None) -> AnyMessage: ...


@dataclass(slots=True)
class Stage:
    """Where one reply is shown, and to whom."""

    parts: Parts
    channel: int
    user: int
    shared: bool
    """More than one person sees it."""
    texts: Texts
    """In the language of whoever is answered."""
    shared_texts: Texts
    """In the language of the server, for buttons that all of it sees."""
    send: Sender
    show_typing: Callable[[], Awaitable[object]] | None = None
    _message: AnyMessage | None = None
    _edits: int = 0
    _full: bool = False
    _under_way: "asyncio.Task[None] | None" = field(default=None)

    @contextlib.asynccontextmanager
    async def typing(self) -> AsyncIterator[None]:
        """Show that something is being written, as long as it takes."""
        if self.show_typing is None:
            yield
            return
        show_typing = self.show_typing

        async def keep_typing() -> None:
            with contextlib.suppress(*FAILURES):
                while True:
                    await show_typing()
                    await asyncio.sleep(TYPING_EVERY_S)

        typing = asyncio.create_task(keep_typing())
        try:
            yield
        finally:
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)

    async def show(self, text: str) -> None:
        """Show a growing reply, if there is room for that."""
        if self._full or self._edits >= self.parts.options.most_edits:
            return
        pieces = split_text(clean(text), MOST_UNITS - len(MORE_COMES), utf16_length)
        if not pieces:
            return
        self._edits += 1
        self._full = len(pieces) > 1
        # Whoever waits for this may be cut off when the reply is whole. The request goes on: a message that was sent
        # and not known to us would stand there twice, and an edit that comes late would hide the end.
        self._under_way = asyncio.create_task(self._show_growing(pieces[0] + MORE_COMES))
        await asyncio.shield(self._under_way)

    async def reply(self, text: str, reply_id: str | None, *, card: Card | None = None) -> int:
        """Show the whole reply with its buttons, note which messages it is, and return the last one's number."""
        pieces = split_text(clean(text), MOST_UNITS, utf16_length) or [self.texts.say("(I have no words for that.)")]
        if card is None and reply_id is not None:
            card = fresh_card(self.parts, self, reply_id)
        view = None if card is None else view_of(card, self.parts.signer, self.channel)
        await self._settled()
        last = 0
        for place, piece in enumerate(pieces):
            below = view if place == len(pieces) - 1 else None
            message = await self._show_piece(place, piece, below)
            last = message.id
            if reply_id is not None:
                await self.note_shown(last, Shown("reply", reply_id, self.parts.marks.person(self.user)))
        if reply_id is not None and self.shared:
            self.parts.remembered.place(reply_id, self.channel, last)
        self._message = None
        return last

    async def say(self, text: str, card: Card | None = None) -> int:
        """Send a text of our own, in place of what has been shown of a reply. Returns the message's number."""
        await self._settled()
        view = None if card is None else view_of(card, self.parts.signer, self.channel)
        message = await self._show_piece(0, text, view)
        self._message = None
        return message.id

    async def say_layout(self, layout: discord.ui.LayoutView) -> int:
        """Send a message that is a layout of its own."""
        return (await self.send(None, layout)).id

    async def note_shown(self, message_id: int, shown: Shown) -> None:
        """Note what a message stands for."""
        await self.parts.book.show(self.parts.marks.message(self.channel, message_id), shown)

    async def _show_growing(self, text: str) -> None:
        with contextlib.suppress(*FAILURES):
            if self._message is None:
                self._message = await self.send(text, None)
            else:
                await self._message.edit(content=text, allowed_mentions=QUIET)

    async def _show_piece(self, place: int, piece: str, view: discord.ui.View | None) -> AnyMessage:
        if place == 0 and self._message is not None:
            try:
                return await self._message.edit(content=piece, view=view, allowed_mentions=QUIET)
            except discord.NotFound:  # somebody deleted it while it grew
                self._message = None
                return await self.send(piece, view)
        return await self.send(piece, view)

    async def _settled(self) -> None:
        """Wait for what is still being shown of the growing reply."""
        if self._under_way is not None:
            await asyncio.gather(self._under_way, return_exceptions=True)
            self._under_way = None


def stage_of_message(parts: Parts, message: discord.Message) -> Stage:
    """Return the stage for the answer to a message. In a server it points at the message."""
    channel, shared = message.channel, not isinstance(message.channel, discord.DMChannel)
    numbers = itertools.count()

    async def send(content: str | None, view: AnyView | None) -> AnyMessage:
        values: dict[str, Any] = {"view": view} if view is not None else {}
        number = next(numbers)
        if shared and number == 0:
            values |= {"reference": message.to_reference(fail_if_not_exists=False), "mention_author": False}
        # discord.py sends again after a 5xx; with a nonce Discord gives back the message that it has already.
        nonce = f"{message.id}-{number}"
        return await channel.send(content, allowed_mentions=QUIET, suppress_embeds=True, nonce=nonce, **values)

    return Stage(
        parts,
        channel.id,
        message.author.id,
        shared,
        parts.texts_of_author(message),
        texts_of_server(message.guild),
        send,
        show_typing=channel.typing,
    )


def stage_of_interaction(parts: Parts, interaction: AnyInteraction) -> Stage:
    """Return the stage for the answer to a press or command that was deferred: a follow-up to it."""

    async def send(content: str | None, view: AnyView | None) -> AnyMessage:
        values: dict[str, Any] = {"view": view} if view is not None else {}
        if content is not None:
            values["content"] = content
        return await interaction.followup.send(wait=True, allowed_mentions=QUIET, suppress_embeds=True, **values)

    shared = interaction.guild_id is not None or isinstance(interaction.channel, discord.GroupChannel)
    return Stage(
        parts,
        channel_of(interaction),
        interaction.user.id,
        shared,
        parts.texts_of(interaction),
        texts_of_server(interaction.guild),
        send,
        show_typing=getattr(interaction.channel, "typing", None) if interaction.message is not None else None,
    )


def fresh_card(parts: Parts, stage: Stage, reply_id: str) -> Card:
    """The buttons below a reply that nobody has rated yet."""
    tally = Tally() if stage.shared else None
    texts = stage.shared_texts if stage.shared else stage.texts
    ours = draws(parts)
    return rating_card(texts, reply_id, owner=stage.user, tally=tally, regenerate=ours, correct=ours)


async def shared_card(parts: Parts, texts: Texts, reply_id: str, owner: int | None) -> Card:
    """The buttons below a reply that a server sees, with counts. `owner`: who asked, None where nobody can tell."""
    ours = draws(parts)
    tally = await parts.desk.tally(reply_id)
    return rating_card(texts, reply_id, owner=owner, tally=tally, regenerate=ours and owner is not None, correct=ours)


async def own_card(parts: Parts, texts: Texts, reply_id: str, user: int, *, alone: bool) -> Card:
    """The buttons of one person, with their own vote ticked. `alone`: the only buttons of the reply, not its echo."""
    ours = draws(parts) and alone
    thumb = await parts.desk.own_thumb(reply_id, user)
    return rating_card(
        texts, reply_id, owner=user, own_thumb=thumb, reasons=True, form=True, regenerate=ours, correct=ours
    )


def draws(parts: Parts) -> bool:
    """Drawing again and taking corrections is only ours where the replies are."""
    return parts.options.mode == "policy"
