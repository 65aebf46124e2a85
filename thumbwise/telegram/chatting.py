"""A message becomes a reply of the policy: one at a time at each place, in the order in which they came."""

import json
import logging
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, TypeVar

from telegram import Chat, Message, MessageEntity, Update
from telegram.error import TelegramError
from telegram.ext import CallbackContext

from thumbwise.client import Answer, Choice, Forbidden, ThumbwiseError
from thumbwise.rating.book import Shown
from thumbwise.rating.cards import Card, comparison_card, consent_card, letter_of
from thumbwise.rating.phrases import correction_needs_consent
from thumbwise.rating.plain_text import clean, utf16_length
from thumbwise.rating.replies import Drawn, passes, patiently, trouble
from thumbwise.rating.turns import Turns
from thumbwise.telegram.formatting import MOST_UNITS
from thumbwise.telegram.parts import Parts, is_shared, place_of, texts_of
from thumbwise.telegram.showing import Stage
from thumbwise.telegram.work import Work, work_of

log = logging.getLogger(__name__)

T = TypeVar("T")
Context = CallbackContext[Any, Any, Any, Any]
NO_KEYS = Card(())
"""The replies of a comparison are judged together, below."""


class Chatting:
    """Answers messages, draws again, takes better answers."""

    def __init__(self, parts: Parts, choose: Callable[[], float] = random.random) -> None:
        self._parts, self._choose = parts, choose
        self.turns = Turns()

    async def on_message(self, update: Update, context: Context) -> None:
        """Answer a message that is meant for the bot; take a better answer where it replies to our asking for one."""
        message, user, chat = update.message, update.effective_user, update.effective_chat
        if message is None or user is None or chat is None or user.is_bot or message.via_bot is not None:
            return
        work = work_of(update)
        stage = Stage(self._parts, work, chat, user, message)
        async with self.turns.at(place_of(message, user)):
            if await self._takes_correction(stage, message):
                return
            text = self._addressed(message, chat)
            if text is None:
                return
            if not text:
                await stage.say(texts_of(user).say("I can only read text."))
                return
            await self.answer(stage, text)

    async def answer(self, stage: Stage, text: str) -> None:
        """Reply to a text at a stage. Whoever calls holds the turn of its place."""
        parts, user = self._parts, stage.user
        await self._ask_consent(stage)
        text = clean(text)
        conversation = parts.conversations.at(place_of(stage.asked, user))
        pair_wanted = not is_shared(stage.chat) and self._choose() < parts.options.compare_share
        try:
            if await stage.work.step("pair") is not None or (pair_wanted and await stage.work.step("drawn") is None):
                answer = await self._once(
                    stage.work, "pair", lambda: self._pair(stage, text), pair_to_json, pair_of_json
                )
                await self._show_pair(stage, answer)
                return
            await stage.open()
            drawn = await self._once(
                stage.work,
                "drawn",
                lambda: patiently(lambda: parts.replies.draw(conversation, text, user.id, stage.show, stage.every_s)),
                drawn_to_json,
                drawn_of_json,
            )
        except ThumbwiseError as error:
            log.warning("no reply cause=%s code=%s", type(error).__name__, getattr(error, "code", None))
            await stage.say(trouble(texts_of(user), error), step="trouble")
            return
        await stage.reply(drawn.text, drawn.reply_id)

    async def again(self, stage: Stage, reply_id: str) -> bool:
        """Draw another reply to what the last one answered. False where that is not the last one any more."""
        parts, user = self._parts, stage.user
        place = place_of(stage.asked, user)
        async with self.turns.at(place):
            conversation = parts.conversations.at(place)
            noted = await stage.work.step("drawn")
            if noted is None and (conversation.last_reply_id != reply_id or not conversation.messages):
                return False
            try:
                await stage.open()

                async def draw() -> Drawn:
                    drawn = await parts.replies.again(conversation, user.id, stage.show, stage.every_s)
                    assert drawn is not None, "there is a last reply, so there is what it answered"
                    return drawn

                drawn = await self._once(stage.work, "drawn", lambda: patiently(draw), drawn_to_json, drawn_of_json)
            except ThumbwiseError as error:
                await stage.say(trouble(texts_of(user), error), step="trouble")
                return True
            await stage.reply(drawn.text, drawn.reply_id)
            return True

    async def correct(self, stage: Stage, reply_id: str, text: str) -> None:
        """Take a better answer, and say what became of it."""
        texts = texts_of(stage.user)
        try:
            await self._parts.desk.correct(reply_id, stage.user.id, clean(text), stage.work.event)
            said = texts.say("Thank you! Your answer is noted.")
        except Forbidden:
            said = correction_needs_consent(texts)
        except ThumbwiseError as error:
            if passes(error):
                stage.work.put_off(error)
                return
            said = trouble(texts, error)
        await stage.say(said)

    async def ask_correction(self, stage: Stage, reply_id: str, prompt: Callable[[str], Awaitable[Message]]) -> None:
        """Ask for a better answer, to be given by replying to the question."""
        texts = texts_of(stage.user)
        if await stage.work.step("asked") is None:
            question = await prompt(texts.say("Please reply to this message with the better answer."))
            await stage.work.note("asked", str(question.message_id))
            owner = self._parts.marks.person(stage.user.id)
            await stage.note_shown(question.message_id, Shown("correction", reply_id, owner))

    async def _takes_correction(self, stage: Stage, message: Message) -> bool:
        replied = message.reply_to_message
        if replied is None or not replied.message_id or not message.text:
            return False
        shown = await self._parts.book.shown(self._parts.marks.message(stage.chat.id, replied.message_id))
        if shown is None or shown.kind != "correction" or shown.owner != self._parts.marks.person(stage.user.id):
            return False
        await self.correct(stage, shown.target, message.text)
        return True

    def _addressed(self, message: Message, chat: Chat) -> str | None:
        """Return the text that is meant for the bot, "" where it has none; None where it is not meant for it."""
        text = message.text or message.caption or ""
        if not is_shared(chat):
            return text
        if not self._parts.options.groups:
            return None
        bot = self._parts.bot
        replied = message.reply_to_message
        to_us = replied is not None and replied.from_user is not None and replied.from_user.id == bot.id
        named = f"@{bot.username}"
        entities = {**message.parse_entities(), **message.parse_caption_entities()}
        for entity, part in entities.items():
            if entity.type == MessageEntity.MENTION and part.lower() == named.lower():
                text, to_us = re.sub(re.escape(part), "", text, count=1), True
            elif entity.type == MessageEntity.TEXT_MENTION and entity.user and entity.user.id == bot.id:
                text, to_us = text.replace(part, "", 1), True
        return text.strip() if to_us else None

    async def _ask_consent(self, stage: Stage) -> None:
        """Ask once, before the first reply; in a group nobody is asked in front of the others."""
        if is_shared(stage.chat) or not self._parts.options.ask_consent:
            return
        try:
            if not await self._parts.privacy.should_ask(stage.user.id):
                return
        except ThumbwiseError:
            return  # the reply itself will say that the server is away
        card = consent_card(texts_of(stage.user), owner=stage.user.id)
        try:
            await stage.say(card.text, self._parts.keyboard(card, stage.chat.id), step="consent")
        except TelegramError as error:
            log.warning("the consent question was not sent cause=%s", type(error).__name__)

    async def _pair(self, stage: Stage, text: str) -> Answer:
        conversation = self._parts.conversations.at(place_of(stage.asked, stage.user))
        await stage.typing()
        return await patiently(lambda: self._parts.replies.pair(conversation, text, stage.user.id))

    async def _show_pair(self, stage: Stage, answer: Answer) -> None:
        texts, count = texts_of(stage.user), len(answer.choices)
        if answer.comparison_id is None:
            await stage.reply(answer.text, answer.reply_id)
            return
        replies = tuple(choice.text for choice in answer.choices)
        self._parts.pair_texts.remember(answer.comparison_id, replies)
        card = comparison_card(texts, answer.comparison_id, count, owner=stage.user.id)
        keyboard = self._parts.keyboard(card, stage.chat.id)
        body = "\n\n".join(f"{letter_of(place)}\n{reply}" for place, reply in enumerate(replies))
        owner = self._parts.marks.person(stage.user.id)
        whole = f"{body}\n\n{card.text}"
        if self._parts.options.compare_style == "card" and utf16_length(whole) <= MOST_UNITS:
            message_id = await stage.say(whole, keyboard, step="card")
        else:
            for place, choice in enumerate(answer.choices):
                stage.prefix = f"{letter_of(place)} "
                await stage.reply(f"**{letter_of(place)}**\n\n{choice.text}", choice.reply_id, card=NO_KEYS)
            stage.prefix = ""
            message_id = await stage.say(card.text, keyboard, step="card")
        await stage.note_shown(message_id, Shown("comparison", answer.comparison_id, owner))

    async def _once(
        self,
        work: Work,
        name: str,
        make: Callable[[], Awaitable[T]],
        dump: Callable[[T], str],
        load: Callable[[str], T],
    ) -> T:
        """Return what an earlier try left, else make it and note it."""
        noted = await work.step(name)
        if noted is not None:
            return load(noted)
        made = await make()
        await work.note(name, dump(made))
        return made


def drawn_to_json(drawn: Drawn) -> str:
    """Write a reply down, for a second try."""
    return json.dumps(asdict(drawn))


def drawn_of_json(noted: str) -> Drawn:
    """Read a reply that was written down."""
    return Drawn(**json.loads(noted))


def pair_to_json(answer: Answer) -> str:
    """Write two replies down, for a second try."""
    return json.dumps(asdict(answer))


def pair_of_json(noted: str) -> Answer:
    """Read two replies that were written down."""
    values = json.loads(noted)
    return Answer(**(values | {"choices": tuple(Choice(**choice) for choice in values["choices"])}))
