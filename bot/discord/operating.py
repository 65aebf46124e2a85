"""What only our own bot does: the operators' commands with confirmation, news for them, and the menu of commands."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import discord
from discord import app_commands

from bot.admin import AdminDesk
from bot.discord.client import ThumbwiseBot
from bot.discord.translating import every_language, operators_commands
from bot.notices import Notice, NoticeBoard
from bot.operators import OperatorLanguages
from feedback_store import bot_file
from feedback_store.store import Store
from thumbwise.discord import DiscordRating
from thumbwise.discord.keyboards import view_of
from thumbwise.discord.outbox import FAILURES, QUIET, harmless
from thumbwise.discord.parts import AnyInteraction, channel_of
from thumbwise.discord.presses import whisper
from thumbwise.rating.buttons import Act, Button
from thumbwise.rating.phrases import described
from thumbwise.rating.texts import Texts, languages, texts_for

log = logging.getLogger(__name__)

AnyCommand = app_commands.Command[Any, ..., Any] | app_commands.Group


def add_admin_commands(rating: DiscordRating, desk: AdminDesk, speaking: OperatorLanguages) -> None:
    """Add /align, /versions, /promote and /rollback, and the presses that confirm them.

    Discord shows them to whoever may manage a server, which hides them and allows nothing: the desk asks for the id.
    """

    async def answer(interaction: AnyInteraction, command: str, words: Sequence[str]) -> None:
        await harmless(interaction.response.defer(thinking=True, ephemeral=True))
        parts = rating.parts
        if desk.allows(interaction.user.id):
            await speaking.saw(interaction.user.id, str(interaction.locale))
        card = await desk.command(parts.texts_of(interaction), interaction.user.id, command, words)
        await whisper(interaction, card.text, view_of(card, parts.signer, channel_of(interaction)))

    async def on_press(texts: Texts, user: int, button: Button) -> str:
        return await desk.confirmed(texts, user, button)

    rating.parts.presses[Act.ADMIN] = on_press
    for command in _commands(answer):
        command.default_permissions = discord.Permissions(manage_guild=True)
        rating.bot.tree.add_command(command)


def _commands(answer: Any) -> list[AnyCommand]:
    about = {name: app_commands.locale_str(text) for name, text in operators_commands(texts_for("en")).items()}
    align = app_commands.Group(name="align", description=about["align"])

    @align.command(name="status", description=about["align status"])
    async def status(interaction: discord.Interaction) -> None:
        await answer(interaction, "align", ["status"])

    @align.command(name="start", description=about["align start"])
    @app_commands.describe(force=about["force"])
    async def start(interaction: discord.Interaction, force: bool = False) -> None:
        await answer(interaction, "align", ["start", *(["force"] if force else [])])

    @align.command(name="cancel", description=about["align cancel"])
    async def cancel(interaction: discord.Interaction) -> None:
        await answer(interaction, "align", ["cancel"])

    @app_commands.command(name="versions", description=about["versions"])
    async def versions(interaction: discord.Interaction) -> None:
        await answer(interaction, "versions", [])

    @app_commands.command(name="promote", description=about["promote"])
    @app_commands.describe(number=about["number"], force=about["force"])
    async def promote(
        interaction: discord.Interaction, number: app_commands.Range[int, 1, 2**31], force: bool = False
    ) -> None:
        await answer(interaction, "promote", [str(number), *(["force"] if force else [])])

    @app_commands.command(name="rollback", description=about["rollback"])
    async def rollback(interaction: discord.Interaction) -> None:
        await answer(interaction, "rollback", [])

    return [align, versions, promote, rollback]


async def tell_operators(
    bot: ThumbwiseBot,
    notice: Notice,
    channels: Sequence[int],
    users: Sequence[int],
    speaking: OperatorLanguages,
) -> None:
    """Send a notice to the operators. One that cannot be reached keeps nobody else from hearing it."""
    for channel in channels:
        known = bot.get_channel(channel)
        guild = known.guild if isinstance(known, discord.abc.GuildChannel | discord.Thread) else None
        text = notice.say(await speaking.texts(channel, None if guild is None else str(guild.preferred_locale)))
        await _tell(bot.get_partial_messageable(channel), text, f"channel={channel}")
    for user in users:
        text = notice.say(await speaking.texts(user))
        try:
            where = await bot.create_dm(discord.Object(user))
        except FAILURES as error:
            log.warning("an operator could not be told user=%d cause=%s", user, type(error).__name__)
        else:
            await _tell(where, text, f"user={user}")


async def _tell(where: discord.abc.Messageable, text: str, whom: str) -> None:
    try:
        await where.send(text, allowed_mentions=QUIET)
    except FAILURES as error:
        log.warning("an operator could not be told %s cause=%s", whom, type(error).__name__)


async def watch(board: NoticeBoard, every_s: float) -> None:
    """Look for news until cancelled."""
    while True:
        await board.look()
        await asyncio.sleep(every_s)


async def sync_commands(bot: ThumbwiseBot, file: Store) -> bool:
    """Tell Discord the commands, if they are others than when it was last told. Returns whether it was told.

    Not at each start: Discord counts how often it is told, and people's menus are loaded anew each time.
    """
    told = [command.to_dict(bot.tree) for command in bot.tree.get_commands()]
    in_languages = {language: described(texts_for(language)) for language in languages()}
    whole = json.dumps([told, in_languages, every_language()], sort_keys=True, default=str)
    digest = hashlib.sha256(whole.encode()).hexdigest()
    if await file.write_async(bot_file.note_of, "commands told") == digest:
        return False
    try:
        await bot.tree.sync()
    except FAILURES as error:
        log.warning("the slash commands were not told cause=%s", type(error).__name__)
        return False
    await file.write_async(bot_file.set_note, "commands told", digest)
    log.info("discord was told the slash commands count=%d", len(told))
    return True
