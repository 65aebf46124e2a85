"""A message becomes a reply of the policy: one at a time in each channel, in the order in which they came."""

import logging
import random
import re
from collections.abc import Callable

import discord

from thumbwise.client import Answer, ThumbwiseError
from thumbwise.discord.keyboards import layout_of
from thumbwise.discord.outbox import FAILURES
from thumbwise.discord.parts import Parts, place_of
from thumbwise.discord.showing import Stage, stage_of_message
from thumbwise.rating.book import Shown
from thumbwise.rating.cards import Card, comparison_card, consent_card, letter_of
from thumbwise.rating.phrases import greeting
from thumbwise.rating.plain_text import clean, utf16_length
from thumbwise.rating.replies import Drawn, patiently, trouble
from thumbwise.rating.turns import Turns

log = logging.getLogger(__name__)

NO_KEYS = Card(())
"""The replies of a comparison are judged together, below."""
MOST_LAYOUT_UNITS = 3_800
"""Discord allows 4,000 characters in all texts of a layout; the question below them needs some."""
_WRITTEN_BY_PEOPLE = (discord.MessageType.default, discord.MessageType.reply)
_MENTION = re.compile(r"<@[!&]?\d+>")
_CHANNEL = re.compile(r"<#\d+>")
_EMOJI = re.compile(r"<a?(:\w+:)\d+>")


class Chatting:
    """Answers messages and draws again."""

    def __init__(self, parts: Parts, choose: Callable[[], float] = random.random) -> None:
        self._parts, self._choose = parts, choose
        self.turns = Turns()

    async def on_message(self, message: discord.Message) -> None:
        """Answer a message that is meant for the bot."""
        if message.author.bot or message.webhook_id is not None or message.type not in _WRITTEN_BY_PEOPLE:
            return
        text = self._addressed(message)
        if text is None:
            return
        async with self.turns.at(message.channel.id):  # the first thing that waits: so the order is theirs
            stage = stage_of_message(self._parts, message)
            try:
                if text:
                    await self.answer(stage, text)
                elif message.attachments or message.stickers:
                    await stage.say(stage.texts.say("I can only read text."))
                else:
                    await stage.say(greeting(stage.texts))
            except FAILURES as error:
                log.warning(
                    "discord did not take a reply code=%s cause=%s", getattr(error, "code", None), type(error).__name__
                )

    async def answer(self, stage: Stage, text: str) -> None:
        """Reply to a text at a stage. Whoever calls holds the turn of its channel."""
        parts = self._parts
        await self._ask_consent(stage)
        text = clean(text)
        conversation = parts.conversations.at(place_of(stage.channel, stage.user))
        try:
            async with stage.typing():
                if not stage.shared and self._choose() < parts.options.compare_share:
                    answer = await patiently(lambda: parts.replies.pair(conversation, text, stage.user))
                    await self._show_pair(stage, answer)
                    return
                every_s = parts.options.edit_every_s
                drawn = await patiently(lambda: parts.replies.draw(conversation, text, stage.user, stage.show, every_s))
        except ThumbwiseError as error:
            log.warning("no reply cause=%s code=%s", type(error).__name__, getattr(error, "code", None))
            await stage.say(trouble(stage.texts, error))
            return
        await stage.reply(drawn.text, drawn.reply_id)

    async def again(self, stage: Stage, reply_id: str | None = None) -> bool:
        """Draw another reply to what the last one answered. False where there is none, or `reply_id` is not it."""
        parts = self._parts
        async with self.turns.at(stage.channel):
            conversation = parts.conversations.at(place_of(stage.channel, stage.user))
            if not conversation.messages or (reply_id is not None and conversation.last_reply_id != reply_id):
                return False

            async def draw() -> Drawn:
                drawn = await parts.replies.again(conversation, stage.user, stage.show, parts.options.edit_every_s)
                assert drawn is not None, "there is a last reply, so there is what it answered"
                return drawn

            try:
                async with stage.typing():
                    drawn = await patiently(draw)
            except ThumbwiseError as error:
                await stage.say(trouble(stage.texts, error))
                return True
            await stage.reply(drawn.text, drawn.reply_id)
            return True

    def _addressed(self, message: discord.Message) -> str | None:
        """Return the text that is meant for the bot, "" where it has none; None where it is not meant for it.

        Names of others, of channels and of emoji come as numbers: they are put into words, because a number says
        nothing to a model and too much to whoever reads what is kept.
        """
        text = message.content
        if not isinstance(message.channel, discord.DMChannel):
            named = any(user.id == self._parts.bot_id for user in message.mentions)
            if not self._parts.options.servers or not named:
                return None
            text = re.sub(rf"<@!?{self._parts.bot_id}>", "", text)
        text = _EMOJI.sub(r"\1", _CHANNEL.sub("#channel", _MENTION.sub("@somebody", text)))
        return text.strip()

    async def _ask_consent(self, stage: Stage) -> None:
        """Ask once, before the first reply; in a server nobody is asked in front of the others."""
        if stage.shared or not self._parts.options.ask_consent:
            return
        try:
            if not await self._parts.privacy.should_ask(stage.user):
                return
            held_back = (await self._parts.privacy.consent(stage.user)).held_back
        except ThumbwiseError:
            return  # the reply itself will say that the server is away
        card = consent_card(stage.texts, owner=stage.user, held_back=held_back)
        try:
            await stage.say(card.text, card)
        except FAILURES as error:
            log.warning("the consent question was not sent cause=%s", type(error).__name__)

    async def _show_pair(self, stage: Stage, answer: Answer) -> None:
        if answer.comparison_id is None:
            await stage.reply(answer.text, answer.reply_id)
            return
        parts, count = self._parts, len(answer.choices)
        replies = tuple(clean(choice.text) for choice in answer.choices)
        parts.pair_texts.remember(answer.comparison_id, replies)
        card = comparison_card(stage.texts, answer.comparison_id, count, owner=stage.user)
        boxes = tuple(f"**{letter_of(place)}**\n{reply}" for place, reply in enumerate(replies))
        if parts.options.compare_style == "card" and sum(map(utf16_length, boxes)) <= MOST_LAYOUT_UNITS:
            message_id = await stage.say_layout(layout_of(boxes, card, parts.signer, stage.channel))
        else:
            for place, choice in enumerate(answer.choices):
                await stage.reply(f"**{letter_of(place)}**\n{choice.text}", choice.reply_id, card=NO_KEYS)
            message_id = await stage.say(card.text, card)
        owner = parts.marks.person(stage.user)
        await stage.note_shown(message_id, Shown("comparison", answer.comparison_id, owner))
