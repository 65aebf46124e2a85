"""How a reply is shown: while it grows (drafts in private, a few edits in groups) and when it is whole.

What was sent is noted as a step of the work, so that a second try after a crash edits or goes on, and does not send
again. The keyboard hangs on the last part: there the reader is when they have read it.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from telegram import Chat, InlineKeyboardMarkup, LinkPreviewOptions, Message, ReplyParameters, User
from telegram.constants import ChatAction
from telegram.error import BadRequest

from thumbwise.rating.book import Shown, Tally
from thumbwise.rating.cards import Card, rating_card
from thumbwise.rating.texts import Texts
from thumbwise.telegram.formatting import parts_of, preview
from thumbwise.telegram.outbox import harmless
from thumbwise.telegram.parts import Parts, is_shared, texts_of, thread_of
from thumbwise.telegram.work import Work

NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
GROUP_EDIT_EVERY_S = 3.0
TYPING_EVERY_S = 4.5
PLACEHOLDER = "…"
PROBES = 60
"""Message numbers that are looked at after a crash: more than a bot sends in the moment it takes to note one."""


@dataclass(slots=True)
class Stage:
    """Where one reply is shown. `prefix` tells the steps of several replies of one update apart."""

    parts: Parts
    work: Work
    chat: Chat
    user: User
    asked: Message
    """The message that is answered: in groups the reply points at it."""
    prefix: str = ""
    _edits: int = 0
    _placeholder: int | None = None
    _drafts: bool = True
    _typed_at: float = field(default=-1e9)

    def __post_init__(self) -> None:
        self.parts.newest.saw(self.chat.id, self.asked.message_id)

    @property
    def every_s(self) -> float:
        """How often the reply is shown while it grows."""
        return GROUP_EDIT_EVERY_S if is_shared(self.chat) else self.parts.options.draft_every_s

    async def open(self) -> None:
        """Say that a reply is coming: a placeholder in groups, which edits then fill; else "typing"."""
        if not is_shared(self.chat):
            await self.typing()
            return
        noted = await self.work.step(f"{self.prefix}placeholder")
        if noted is None:
            message = await self._send(PLACEHOLDER, [], None)
            noted = str(message.message_id)
            await self.work.note(f"{self.prefix}placeholder", noted)
        self._placeholder = int(noted)

    async def show(self, text: str) -> None:
        """Show a growing reply, if there is room for that."""
        if not is_shared(self.chat):
            await self._draft(text)
        elif self._placeholder is not None and self._edits < self.parts.options.group_edits:
            self._edits += 1
            message_id, shown = self._placeholder, preview(text)
            await self.parts.outbox.try_to_send(
                self.chat.id,
                lambda: self.parts.bot.edit_message_text(
                    shown, self.chat.id, message_id, link_preview_options=NO_PREVIEW
                ),
            )

    async def typing(self) -> None:
        """Show that something is being written."""
        if time.monotonic() - self._typed_at < TYPING_EVERY_S:
            return
        self._typed_at = time.monotonic()
        await self.parts.outbox.try_to_send(
            self.chat.id,
            lambda: self.parts.bot.send_chat_action(self.chat.id, ChatAction.TYPING, message_thread_id=self._thread()),
        )

    async def reply(self, text: str, reply_id: str | None, *, card: Card | None = None) -> int:
        """Show the whole reply with its keys, note which messages it is, and return the last one's number."""
        pieces = parts_of(text) or [(texts_of(self.user).say("(I have no words for that.)"), [])]
        keyboard = self.keyboard(reply_id, card)
        last_id = 0
        for place, (piece, entities) in enumerate(pieces):
            name = f"{self.prefix}sent {place}"
            noted = await self.work.step(name)
            if noted is None:
                below = keyboard if place == len(pieces) - 1 else None
                last_id = await self._show_part(name, place, piece, entities, below)
                await self.work.note(name, str(last_id))
            else:
                last_id = int(noted)
            if reply_id is not None:
                await self.note_shown(last_id, Shown("reply", reply_id, self.parts.marks.person(self.user.id)))
        return last_id

    def keyboard(self, reply_id: str | None, card: Card | None) -> InlineKeyboardMarkup | None:
        """Return the keys below a reply; none where it has no receipt."""
        if card is None and reply_id is not None:
            card = fresh_card(self.parts, texts_of(self.user), reply_id, self.chat, self.user)
        return None if card is None else self.parts.keyboard(card, self.chat.id)

    async def note_shown(self, message_id: int, shown: Shown) -> None:
        """Note what a message stands for."""
        if message_id:
            await self.parts.book.show(self.parts.marks.message(self.chat.id, message_id), shown)

    async def say(self, text: str, keyboard: InlineKeyboardMarkup | None = None, step: str = "said") -> int:
        """Send a text of our own, once a step, into the placeholder if there is one. Returns the message's number."""
        name = f"{self.prefix}{step}"
        noted = await self.work.step(name)
        if noted is None:
            noted = str(await self._show_part(name, 0, text, [], keyboard))
            await self.work.note(name, noted)
            if keyboard is not None:
                await self.note_shown(int(noted), Shown("card", "", self.parts.marks.person(self.user.id)))
        return int(noted)

    async def _show_part(
        self, name: str, place: int, text: str, entities: list[Any], keyboard: InlineKeyboardMarkup | None
    ) -> int:
        if place == 0 and self._placeholder is not None:
            message_id = self._placeholder
            await harmless(
                self.parts.outbox.send(
                    self.chat.id,
                    lambda: self.parts.bot.edit_message_text(
                        text,
                        self.chat.id,
                        message_id,
                        entities=entities,
                        reply_markup=keyboard,
                        link_preview_options=NO_PREVIEW,
                    ),
                )
            )
            return message_id
        return await self._send_once(name, text, entities, keyboard)

    async def _send_once(self, name: str, text: str, entities: list[Any], keyboard: InlineKeyboardMarkup | None) -> int:
        """Send a message that must not come twice, even if we are killed between its arrival and our note of it.

        The newest message number that we know is noted first. If a former try left only that, the message may be there:
        it has one of the next numbers, and setting the very keyboard it was sent with is refused as no change. Without
        keys there is no such test, and such a text (a question, an error) may come twice.
        """
        after = await self.work.step(f"{name} sending")
        if after is not None and keyboard is not None:
            for message_id in range(int(after) + 1, int(after) + 1 + PROBES):
                if await self._is_sent(message_id, keyboard):
                    return message_id
        await self.work.note(f"{name} sending", str(self.parts.newest.number(self.chat.id)))
        message = await self._send(text, entities, keyboard)
        self.parts.newest.saw(self.chat.id, message.message_id)
        return message.message_id

    async def _is_sent(self, message_id: int, keyboard: InlineKeyboardMarkup) -> bool:
        """Say whether a message is the one with this keyboard. One that is known to be another is left alone."""
        if await self.parts.book.shown(self.parts.marks.message(self.chat.id, message_id)) is not None:
            return False
        try:
            await self.parts.outbox.send(
                self.chat.id,
                lambda: self.parts.bot.edit_message_reply_markup(self.chat.id, message_id, reply_markup=keyboard),
            )
        except BadRequest as error:
            return "not modified" in error.message.lower()
        return False

    async def _send(self, text: str, entities: list[Any], keyboard: InlineKeyboardMarkup | None) -> Message:
        points_at = None
        if is_shared(self.chat) and self.asked.message_id:
            points_at = ReplyParameters(self.asked.message_id, allow_sending_without_reply=True)
        return await self.parts.outbox.send(
            self.chat.id,
            lambda: self.parts.bot.send_message(
                self.chat.id,
                text,
                entities=entities,
                reply_markup=keyboard,
                reply_parameters=points_at,
                message_thread_id=self._thread(),
                link_preview_options=NO_PREVIEW,
            ),
        )

    async def _draft(self, text: str) -> None:
        if not self._drafts:
            await self.typing()
            return
        draft_id = int(self.work.event) % (2**31 - 1) + 1  # the same all through this reply, and never 0

        async def send() -> None:
            try:
                await self.parts.bot.send_message_draft(
                    self.chat.id, draft_id, preview(text), message_thread_id=self._thread()
                )
            except BadRequest:  # an older Bot API server, or a chat where it is not offered
                self._drafts = False

        await self.parts.outbox.try_to_send(self.chat.id, send)

    def _thread(self) -> int | None:
        return thread_of(self.asked)


def fresh_card(parts: Parts, texts: Texts, reply_id: str, chat: Chat, user: User) -> Card:
    """The keys below a reply that nobody has rated yet."""
    if is_shared(chat):
        return rating_card(
            texts, reply_id, owner=user.id, tally=Tally(), regenerate=_draws(parts), correct=_draws(parts)
        )
    return rating_card(texts, reply_id, owner=user.id, regenerate=_draws(parts), correct=_draws(parts))


async def present_card(parts: Parts, texts: Texts, reply_id: str, chat: Chat, owner: int, *, reasons: bool) -> Card:
    """The keys below a reply as its votes stand now. `owner`: the person whose own reply, or own chat, it is."""
    ours = _draws(parts)
    if is_shared(chat):
        tally = await parts.desk.tally(reply_id)
        return rating_card(texts, reply_id, owner=owner, tally=tally, regenerate=ours, correct=ours)
    thumb = await parts.desk.own_thumb(reply_id, owner)
    return rating_card(texts, reply_id, owner=owner, own_thumb=thumb, reasons=reasons, regenerate=ours, correct=ours)


def _draws(parts: Parts) -> bool:
    """Drawing again and taking corrections is only ours where the replies are."""
    return parts.options.mode == "policy"
