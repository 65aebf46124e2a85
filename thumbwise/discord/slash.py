"""The slash commands that people have: begin anew, what is kept, consent, export, erasure, the last answer anew.

Each is deferred at once and answered to its caller alone, but for /regenerate, whose answer is a reply like any other.
They are added to the host's tree; when that is told to Discord is the host's affair.
"""

import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import discord
from discord import app_commands

from thumbwise.client import Forbidden, ThumbwiseError
from thumbwise.discord.chatting import Chatting
from thumbwise.discord.keyboards import view_of
from thumbwise.discord.outbox import FAILURES, QUIET, harmless
from thumbwise.discord.parts import AnyInteraction, Parts, channel_of, place_of
from thumbwise.discord.presses import whisper
from thumbwise.discord.showing import stage_of_interaction
from thumbwise.rating import phrases
from thumbwise.rating.cards import Card, consent_card, forget_card, privacy_text
from thumbwise.rating.phrases import described
from thumbwise.rating.replies import trouble
from thumbwise.rating.texts import Texts, texts_for

NAMES = ("new", "privacy", "consent", "export", "forget", "regenerate")
AnyCommand = app_commands.Command[Any, ..., Any]


class Commands:
    """Answers commands."""

    def __init__(self, parts: Parts, chatting: Chatting) -> None:
        self._parts, self._chatting = parts, chatting

    async def answer(self, name: str, interaction: AnyInteraction) -> None:
        """Answer one of NAMES."""
        texts = self._parts.texts_of(interaction)
        if name == "regenerate":
            await harmless(interaction.response.defer(thinking=True))
            await self._regenerate(interaction, texts)
            return
        await harmless(interaction.response.defer(thinking=True, ephemeral=True))
        answers: dict[str, Callable[[AnyInteraction, Texts], Awaitable[None]]] = {
            "new": self._new,
            "privacy": self._privacy,
            "consent": self._consent,
            "export": self._export,
            "forget": self._forget,
        }
        try:
            await answers[name](interaction, texts)
        except Forbidden:
            await whisper(interaction, phrases.not_allowed_here(texts))
        except ThumbwiseError as error:
            await whisper(interaction, trouble(texts, error))

    async def _new(self, interaction: AnyInteraction, texts: Texts) -> None:
        self._parts.conversations.begin(place_of(channel_of(interaction), interaction.user.id))
        await whisper(interaction, texts.say("A new conversation. What would you like to talk about?"))

    async def _privacy(self, interaction: AnyInteraction, texts: Texts) -> None:
        try:
            held_back = (await self._parts.privacy.consent(interaction.user.id)).held_back
        except ThumbwiseError:
            held_back = False  # not known, so nothing is promised
        await whisper(interaction, privacy_text(texts, held_back=held_back))

    async def _consent(self, interaction: AnyInteraction, texts: Texts) -> None:
        user = interaction.user.id
        consent = await self._parts.privacy.consent(user)
        card = consent_card(texts, owner=user, held_back=consent.held_back)
        text = card.text if consent.consent is None else f"{card.text}\n\n{phrases.answer_now(texts, consent)}"
        await self._whisper_card(interaction, Card(card.rows, text))

    async def _export(self, interaction: AnyInteraction, texts: Texts) -> None:
        found = await self._parts.privacy.export(interaction.user.id)
        content = json.dumps(found, indent=2, ensure_ascii=False).encode("utf-8", "replace")
        file = discord.File(io.BytesIO(content), filename="thumbwise-export.json")
        await harmless(interaction.followup.send(file=file, ephemeral=True, allowed_mentions=QUIET))

    async def _forget(self, interaction: AnyInteraction, texts: Texts) -> None:
        await self._whisper_card(interaction, forget_card(texts, owner=interaction.user.id))

    async def _regenerate(self, interaction: AnyInteraction, texts: Texts) -> None:
        stage = stage_of_interaction(self._parts, interaction)
        try:
            if not await self._chatting.again(stage):
                await stage.say(texts.say("There is no answer of mine here yet that I could give anew."))
        except FAILURES:
            pass  # the interaction is gone, and nobody is left to be told

    async def _whisper_card(self, interaction: AnyInteraction, card: Card) -> None:
        await whisper(interaction, card.text, view_of(card, self._parts.signer, channel_of(interaction)))


def tree_commands(answer: Callable[[str, AnyInteraction], Awaitable[None]]) -> list[AnyCommand]:
    """Return the commands for a tree. A host with a translator of its own finds their texts by the English ones."""
    about = described(texts_for("en"))
    return [_tree_command(name, about[name], answer) for name in NAMES]


def _tree_command(name: str, about: str, answer: Callable[[str, AnyInteraction], Awaitable[None]]) -> AnyCommand:
    async def callback(interaction: discord.Interaction) -> None:
        await answer(name, interaction)

    return app_commands.Command(name=name, description=app_commands.locale_str(about), callback=callback)
