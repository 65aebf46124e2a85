"""The commands that people have: begin anew, what is kept, consent, export, erasure, a better answer, and /ask in
groups, where Telegram's privacy mode hides everything but commands and replies from a bot."""

from collections.abc import Awaitable, Callable
from typing import Any

from telegram import Update
from telegram.ext import CallbackContext

from thumbwise.client import ThumbwiseError
from thumbwise.rating.cards import Card, consent_card, forget_card, privacy_text
from thumbwise.rating.phrases import answer_now, greeting
from thumbwise.rating.replies import trouble
from thumbwise.rating.texts import Texts
from thumbwise.telegram.chatting import Chatting
from thumbwise.telegram.parts import Parts, is_shared, place_of, texts_of
from thumbwise.telegram.presses import Presses
from thumbwise.telegram.showing import Stage
from thumbwise.telegram.work import work_of

Context = CallbackContext[Any, Any, Any, Any]
PRIVATE_ONLY = frozenset({"consent", "forget", "export"})
NAMES = ("start", "help", "new", "ask", "privacy", "consent", "forget", "export", "better")
MENU = ("new", "privacy", "consent", "export", "forget", "better", "ask")
"""Those of Telegram's menu, in this order."""


class Commands:
    """Answers commands."""

    def __init__(self, parts: Parts, chatting: Chatting, presses: Presses) -> None:
        self._parts, self._chatting, self._presses = parts, chatting, presses

    async def on_command(self, update: Update, context: Context) -> None:
        """Answer one of NAMES."""
        message, user, chat = update.message, update.effective_user, update.effective_chat
        if message is None or message.text is None or user is None or chat is None or user.is_bot:
            return
        if is_shared(chat) and not self._parts.options.groups:
            return
        name, _, rest = message.text.partition(" ")
        name = name.removeprefix("/").partition("@")[0].lower()
        stage, texts = Stage(self._parts, work_of(update), chat, user, message), texts_of(user)
        if name in PRIVATE_ONLY and is_shared(chat):
            await stage.say(texts.say("Please ask me that in a private chat."))
            return
        answers: dict[str, Callable[[Stage, Texts, str], Awaitable[None]]] = {
            "start": self._start,
            "help": self._start,
            "new": self._new,
            "ask": self._ask,
            "privacy": self._privacy,
            "consent": self._consent,
            "forget": self._forget,
            "export": self._export,
            "better": self._better,
        }
        await answers[name](stage, texts, rest.strip())

    async def _start(self, stage: Stage, texts: Texts, rest: str) -> None:
        await stage.say(greeting(texts))
        if not is_shared(stage.chat) and rest == "consent":
            await self._consent(stage, texts, "")

    async def _new(self, stage: Stage, texts: Texts, rest: str) -> None:
        self._parts.conversations.begin(place_of(stage.asked, stage.user))
        await stage.say(texts.say("A new conversation. What would you like to talk about?"))

    async def _ask(self, stage: Stage, texts: Texts, rest: str) -> None:
        if rest:
            async with self._chatting.turns.at(place_of(stage.asked, stage.user)):
                await self._chatting.answer(stage, rest)
        else:
            await stage.say(texts.say("Write your question behind it: /ask why is the sky blue?"))

    async def _privacy(self, stage: Stage, texts: Texts, rest: str) -> None:
        await stage.say(privacy_text(texts))

    async def _consent(self, stage: Stage, texts: Texts, rest: str) -> None:
        try:
            consent = await self._parts.privacy.consent(stage.user.id)
        except ThumbwiseError as error:
            await stage.say(trouble(texts, error))
            return
        card = consent_card(texts, owner=stage.user.id)
        text = card.text if consent.consent is None else f"{card.text}\n\n{answer_now(texts, consent)}"
        await self._send_card(stage, Card(card.rows, text), step="consent asked")

    async def _forget(self, stage: Stage, texts: Texts, rest: str) -> None:
        await self._send_card(stage, forget_card(texts, owner=stage.user.id))

    async def _export(self, stage: Stage, texts: Texts, rest: str) -> None:
        await self._presses.export(stage)

    async def _better(self, stage: Stage, texts: Texts, rest: str) -> None:
        replied = stage.asked.reply_to_message
        shown = None
        if replied is not None and replied.message_id:
            shown = await self._parts.book.shown(self._parts.marks.message(stage.chat.id, replied.message_id))
        if shown is None or shown.kind != "reply" or not rest:
            await stage.say(texts.say("Reply to one of my answers with /better and the better answer behind it."))
            return
        await self._chatting.correct(stage, shown.target, rest)

    async def _send_card(self, stage: Stage, card: Card, step: str = "said") -> None:
        await stage.say(card.text, self._parts.keyboard(card, stage.chat.id), step=step)
