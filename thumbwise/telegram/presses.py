"""Presses of our keys. Each is verified, answered at once, stored on the server, and then shown.

Answered at once: Telegram's clock on the key stops within a second, whatever the server does. Where the server is slow
the answer says "noted", which the inbox makes true; the vote itself is sent with the update's number as its key.
"""

import asyncio
import io
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from telegram import CallbackQuery, ForceReply, InputFile, Message, Update, User
from telegram.error import TelegramError
from telegram.ext import CallbackContext

from thumbwise.client import Forbidden, NotFound, ThumbwiseError
from thumbwise.client.calls import Thumb
from thumbwise.rating import phrases
from thumbwise.rating.buttons import THUMBS, VERDICTS, Act, Button, ButtonRefused
from thumbwise.rating.cards import comparison_card, reason_of
from thumbwise.rating.replies import passes, trouble
from thumbwise.rating.texts import Texts
from thumbwise.telegram.chatting import Chatting
from thumbwise.telegram.outbox import harmless
from thumbwise.telegram.parts import Parts, is_shared, place_of, texts_of, thread_of
from thumbwise.telegram.showing import Stage, present_card
from thumbwise.telegram.work import Work, work_of

log = logging.getLogger(__name__)

Context = CallbackContext[Any, Any, Any, Any]
ANSWER_WITHIN_S = 0.8


class Presses:
    """Does what a pressed key asks for."""

    def __init__(self, parts: Parts, chatting: Chatting) -> None:
        self._parts, self._chatting = parts, chatting

    async def on_press(self, update: Update, context: Context) -> None:
        """Verify a press and do it."""
        query = update.callback_query
        if query is None or query.data is None:
            return
        texts, message, work = texts_of(query.from_user), query.message, work_of(update)
        if message is None:  # a message of inline mode: we never send any
            await self._answer(query, texts.say("This button is too old."))
            return
        try:
            button = self._parts.signer.read(query.data, message.chat.id, query.from_user.id, work.event)
        except ButtonRefused as refusal:
            log.info("a press was refused reason=%s", refusal.reason)
            await self._answer(query, phrases.refused(texts, refusal), alert=True)
            return
        try:
            await self._do(button, query, cast("Message", message), work, texts)
        except NotFound:
            await self._answer(query, texts.say("This answer can no longer be rated."), alert=True)
        except ThumbwiseError as error:
            log.warning("a press was not stored cause=%s", type(error).__name__)
            if passes(error):
                work.put_off(error)
            else:
                await self._answer(query, trouble(texts, error), alert=True)

    async def _do(self, button: Button, query: CallbackQuery, message: Message, work: Work, texts: Texts) -> None:
        act = button.act
        if act in THUMBS:
            await self._thumb(button.target, THUMBS[act], query, message, work, texts)
        elif act is Act.REASON:
            await self._reason(button, query, message, work, texts)
        elif act is Act.CHOOSE or act in VERDICTS:
            wanted = str(button.detail) if act is Act.CHOOSE else VERDICTS[act]
            await self._verdict(button.target, wanted, query, message, work, texts)
        elif act is Act.REGENERATE:
            await self._again(button.target, query, message, work, texts)
        elif act is Act.CORRECT:
            await self._ask_correction(button.target, query, message, work)
        elif act in (Act.CONSENT_YES, Act.CONSENT_NO):
            await self._consent(act is Act.CONSENT_YES, query, message, texts)
        elif act is Act.FORGET:
            await self._forget(query, message, texts)
        elif act is Act.DISMISS:
            await self._answer(query)
            await self._replace(message, texts.say("Cancelled."))
        elif handler := self._parts.presses.get(act):
            await self._answer(query)
            await self._replace(message, await handler(texts, query.from_user, button))
        else:
            await self._answer(query, texts.say("This button is too old."))

    async def _thumb(
        self, reply_id: str, wanted: Thumb | None, query: CallbackQuery, message: Message, work: Work, texts: Texts
    ) -> None:
        user, shared = query.from_user, is_shared(message.chat)

        async def store() -> str:
            chosen = await self._parts.desk.thumb(reply_id, user.id, wanted, work.event, toggle=shared)
            return phrases.thumb_stored(texts, chosen)

        await self._answered_meanwhile(query, texts, store())
        await self._show_votes(reply_id, message, user, texts, reasons=True)

    async def _reason(self, button: Button, query: CallbackQuery, message: Message, work: Work, texts: Texts) -> None:
        if (found := reason_of(button)) is None:
            await self._answer(query, texts.say("This button is too old."))
            return
        thumb, reason = found

        async def store() -> str:
            await self._parts.desk.reason(button.target, query.from_user.id, thumb, reason, work.event)
            return texts.say("Thank you!")

        await self._answered_meanwhile(query, texts, store())
        await self._show_votes(button.target, message, query.from_user, texts, reasons=False)

    async def _verdict(
        self, comparison_id: str, wanted: str | None, query: CallbackQuery, message: Message, work: Work, texts: Texts
    ) -> None:
        user = query.from_user

        async def store() -> str:
            chosen = await self._parts.desk.verdict(comparison_id, user.id, wanted, work.event)
            parts = self._parts
            parts.pair_texts.go_on_from(comparison_id, chosen, parts.conversations, place_of(message, user))
            return phrases.verdict_stored(texts, chosen)

        await self._answered_meanwhile(query, texts, store())

        async def make() -> Callable[[], Awaitable[object]]:
            verdict = await self._parts.book.choice(comparison_id, self._parts.marks.person(user.id))
            card = comparison_card(texts, comparison_id, 2, owner=user.id, verdict=verdict)
            keyboard = self._parts.keyboard(card, message.chat.id)
            return lambda: self._parts.bot.edit_message_reply_markup(
                message.chat.id, message.message_id, reply_markup=keyboard
            )

        await self._parts.edits.edit(message.chat.id, message.message_id, make)

    async def _again(self, reply_id: str, query: CallbackQuery, message: Message, work: Work, texts: Texts) -> None:
        stage = Stage(self._parts, work, message.chat, query.from_user, message)
        answered = asyncio.ensure_future(self._answer(query))
        if not await self._chatting.again(stage, reply_id):
            await stage.say(texts.say("Only my latest answer can be given anew. Just ask again."))
        await answered

    async def _ask_correction(self, reply_id: str, query: CallbackQuery, message: Message, work: Work) -> None:
        texts, user = texts_of(query.from_user), query.from_user
        consent = await self._parts.privacy.consent(user.id)
        if not consent.in_force:
            await self._answer(query, phrases.correction_needs_consent(texts), alert=True)
            return
        await self._answer(query)

        async def prompt(text: str) -> Message:
            name = user.mention_html() if is_shared(message.chat) else ""  # a selective reply needs the name
            body = f"{name} {_escaped(text)}".strip()
            return await self._parts.outbox.send(
                message.chat.id,
                lambda: self._parts.bot.send_message(
                    message.chat.id,
                    body,
                    parse_mode="HTML",
                    reply_markup=ForceReply(selective=True),
                    message_thread_id=thread_of(message),
                ),
            )

        stage = Stage(self._parts, work, message.chat, user, message)
        await self._chatting.ask_correction(stage, reply_id, prompt)

    async def _consent(self, given: bool, query: CallbackQuery, message: Message, texts: Texts) -> None:
        await self._parts.privacy.answer(query.from_user.id, given)
        await self._answer(query)
        await self._replace(message, phrases.consent_stored(texts, given))

    async def _forget(self, query: CallbackQuery, message: Message, texts: Texts) -> None:
        await self._answer(query)
        try:
            erased = await self._parts.privacy.forget(query.from_user.id)
        except Forbidden:
            await self._replace(message, phrases.not_allowed_here(texts))
            return
        await self._replace(message, phrases.erased(texts, erased))

    async def export(self, stage: Stage) -> None:
        """Send a person everything that is kept of them, as a file, to them alone."""
        texts = texts_of(stage.user)
        try:
            found = await self._parts.privacy.export(stage.user.id)
        except Forbidden:
            await stage.say(phrases.not_allowed_here(texts))
            return
        except ThumbwiseError as error:
            await stage.say(trouble(texts, error))
            return
        content = json.dumps(found, indent=2, ensure_ascii=False).encode("utf-8", "replace")
        if await stage.work.step("exported") is None:
            await self._parts.outbox.send(
                stage.chat.id,
                lambda: self._parts.bot.send_document(
                    stage.chat.id, InputFile(io.BytesIO(content), filename="thumbwise-export.json")
                ),
            )
            await stage.work.note("exported", "1")

    async def _show_votes(self, reply_id: str, message: Message, user: User, texts: Texts, *, reasons: bool) -> None:
        owner = self._owner_in(message) or user.id

        async def make() -> Callable[[], Awaitable[object]]:
            card = await present_card(self._parts, texts, reply_id, message.chat, owner, reasons=reasons)
            keyboard = self._parts.keyboard(card, message.chat.id)
            return lambda: self._parts.bot.edit_message_reply_markup(
                message.chat.id, message.message_id, reply_markup=keyboard
            )

        await self._parts.edits.edit(message.chat.id, message.message_id, make)

    def _owner_in(self, message: Message) -> int | None:
        """Whose reply a shared keyboard stands below: read from its own keys, which only we can have signed."""
        markup = getattr(message, "reply_markup", None)  # an old message comes without
        for row in markup.inline_keyboard if markup else ():
            for key in row:
                if isinstance(key.callback_data, str):
                    button = self._parts.signer.glance(key.callback_data, message.chat.id)
                    if button is not None and button.owner is not None:
                        return button.owner
        return None

    async def _answered_meanwhile(self, query: CallbackQuery, texts: Texts, storing: Awaitable[str]) -> None:
        """Store, and answer the press with what came of it, or with "noted" if that takes too long."""
        task = asyncio.ensure_future(storing)
        done, _ = await asyncio.wait({task}, timeout=ANSWER_WITHIN_S)
        if done:
            await self._answer(query, task.result())
            return
        await self._answer(query, texts.say("Noted."))
        await task

    async def _answer(self, query: CallbackQuery, text: str | None = None, *, alert: bool = False) -> None:
        """Stop the key's clock. A press that is minutes old cannot be answered any more, and need not be."""
        try:
            await query.answer(text, show_alert=alert)
        except TelegramError as error:
            log.debug("a press could not be answered cause=%s", type(error).__name__)

    async def _replace(self, message: Message, text: str) -> None:
        """Put a text in place of a card; its keys are gone with it."""
        await harmless(
            self._parts.outbox.send(
                message.chat.id,
                lambda: self._parts.bot.edit_message_text(text, message.chat.id, message.message_id),
            )
        )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
