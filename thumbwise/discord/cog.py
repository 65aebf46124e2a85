"""The cog that stands in a bot, ours or a host's: it hears messages, presses, forms, reactions and commands.

It is made before the bot has logged in, as extensions are, so its parts are put together when the first event comes.
"""

import os
import re
from dataclasses import replace
from functools import cached_property
from typing import Any

import discord
from discord.ext import commands

from thumbwise.client import AsyncThumbwise
from thumbwise.discord.chatting import Chatting
from thumbwise.discord.keyboards import COG_NAME, RatingButton, view_of
from thumbwise.discord.parts import AnyInteraction, Mode, Options, Parts, parts_of_bot
from thumbwise.discord.presses import Presses
from thumbwise.discord.reactions import Reactions
from thumbwise.discord.showing import Stage, fresh_card, stage_of_interaction, stage_of_message
from thumbwise.discord.slash import Commands, tree_commands
from thumbwise.rating.book import ReplyBook, Shown
from thumbwise.rating.buttons import PATTERN, ButtonSecrets

AnyBot = commands.Bot | commands.AutoShardedBot
Asked = discord.Message | discord.Interaction[Any]
"""What is answered: a message, or an interaction that was deferred."""


class DiscordRating(commands.Cog, name=COG_NAME):
    """Rating, and in mode "policy" also our replies, in one bot."""

    def __init__(
        self,
        bot: AnyBot,
        client: AsyncThumbwise,
        *,
        mode: Mode = "policy",
        slash_commands: bool | None = None,
        options: Options | None = None,
        book: ReplyBook | None = None,
        secret: bytes | str | ButtonSecrets | None = None,
        close_client: bool = False,
    ) -> None:
        """Prepare. mode: "policy", our model answers direct messages and messages that mention the bot; "host", the
        host replies, and only presses and reactions are ours. slash_commands: /new /privacy … (None: in mode "policy"
        alone). options: finer settings; its mode is set to `mode`. book: where marks of messages are kept (None: in
        memory). secret: signs the buttons (None: the bot's token, so that buttons outlive a restart).
        """
        self.bot, self.client = bot, client
        self._options = replace(options or Options(), mode=mode)
        self._slash_commands = mode == "policy" if slash_commands is None else slash_commands
        self._book, self._secret, self._close_client = book, secret, close_client
        self._added: list[Any] = []

    async def cog_load(self) -> None:
        """Let the bot know our buttons and commands."""
        self.bot.add_dynamic_items(RatingButton)
        if self._slash_commands:
            for command in tree_commands(lambda name, interaction: self._commands.answer(name, interaction)):
                self.bot.tree.add_command(command)
                self._added.append(command)

    async def cog_unload(self) -> None:
        """Take them away again."""
        self.bot.remove_dynamic_items(RatingButton)
        for command in self._added:
            self.bot.tree.remove_command(command.name)
        if "parts" in self.__dict__:
            await self.parts.edits.close()
        if self._close_client:
            await self.client.aclose()

    @cached_property
    def parts(self) -> Parts:
        """The parts. Raises RuntimeError before the bot has logged in."""
        return parts_of_bot(self.bot, self.client, self._options, self._book, self._secret)

    @cached_property
    def chatting(self) -> Chatting:
        """What answers messages."""
        return Chatting(self.parts)

    @cached_property
    def presses(self) -> Presses:
        """What does the presses."""
        return Presses(self.parts, self.chatting)

    @cached_property
    def _commands(self) -> Commands:
        return Commands(self.parts, self.chatting)

    @cached_property
    def _reactions(self) -> Reactions:
        return Reactions(self.parts, self.presses, self.chatting.turns)

    async def reply(self, asked: Asked, text: str, reply_id: str | None) -> int:
        """Send a reply of the policy with its rating buttons, length taken care of. Returns the last part's number."""
        return await self._stage(asked).reply(text, reply_id)

    def view(self, asked: Asked, reply_id: str) -> discord.ui.View:
        """Return the rating buttons for a message that you send yourself, in answer to `asked`."""
        stage = self._stage(asked)
        view = view_of(fresh_card(self.parts, stage, reply_id), self.parts.signer, stage.channel)
        assert view is not None, "a rating card has buttons"
        return view

    async def shown(self, asked: Asked, sent: discord.Message, reply_id: str) -> None:
        """Say which message of yours shows a reply, so that reactions to it count as thumbs."""
        stage = self._stage(asked)
        await stage.note_shown(sent.id, Shown("reply", reply_id, self.parts.marks.person(stage.user)))

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        """Answer messages that are meant for the bot."""
        if self._options.mode == "policy" and not await self._is_hosts_command(message):
            await self.chatting.on_message(message)

    @commands.Cog.listener()
    async def on_interaction(self, interaction: AnyInteraction) -> None:
        """Take our forms; presses come through `RatingButton`, commands through the tree."""
        if interaction.type is discord.InteractionType.modal_submit and interaction.data is not None:
            data = interaction.data.get("custom_id")
            if isinstance(data, str) and re.match(PATTERN, data):
                await self.presses.on_form(interaction, data)

    @commands.Cog.listener()
    async def on_raw_reaction_add(self, event: discord.RawReactionActionEvent) -> None:
        """Take a reaction as a vote."""
        await self._reactions.on_reaction(event, added=True)

    @commands.Cog.listener()
    async def on_raw_reaction_remove(self, event: discord.RawReactionActionEvent) -> None:
        """Take a vote back with its reaction."""
        await self._reactions.on_reaction(event, added=False)

    async def _is_hosts_command(self, message: discord.Message) -> bool:
        """Whether a message is a text command of the host's, which answers it."""
        return bool(self.bot.all_commands) and (await self.bot.get_context(message)).valid

    def _stage(self, asked: Asked) -> Stage:
        if isinstance(asked, discord.Interaction):
            return stage_of_interaction(self.parts, asked)
        return stage_of_message(self.parts, asked)


def client_of_environment() -> AsyncThumbwise:
    """Return a client of the server at THUMBWISE_URL; of this machine's own where that is not set."""
    return AsyncThumbwise(os.environ.get("THUMBWISE_URL", "http://127.0.0.1:8080"))
