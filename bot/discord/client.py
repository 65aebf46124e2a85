"""The bot itself, as discord.py sees it: our cog, the operators' commands, and next to nothing kept in memory."""

from typing import Any

import discord
from discord.ext import commands

from bot.discord.translating import CatalogueTranslator
from bot.settings import DiscordSettings
from thumbwise.discord import INTENTS, Options


class ThumbwiseBot(commands.AutoShardedBot):
    """A bot without text commands: what is written to it is for the policy."""

    def __init__(self, settings: DiscordSettings, cogs: Any) -> None:
        """Prepare. `cogs` is awaited with this bot once Discord has told who it is, and adds what it consists of."""
        discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False  # it never speaks
        shards: dict[str, Any] = {"shard_ids": list(settings.shard_ids)} if settings.shard_ids else {}
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            intents=INTENTS,
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            shard_count=settings.shard_count,
            **shards,
        )
        self._cogs = cogs
        self._begun = False

    async def setup_hook(self) -> None:
        """Put the bot together: called after the login and before the first event."""
        await self.tree.set_translator(CatalogueTranslator())
        await self._cogs(self)

    async def connect(self, *, reconnect: bool = True) -> None:
        """Connect to Discord's gateway, and stay connected."""
        self._begun = True
        await super().connect(reconnect=reconnect)

    async def close(self) -> None:
        """Take everything down. discord.py 2.7 cannot close a bot of many shards that never came to connect."""
        if self._begun:
            await super().close()
        else:
            await self.forget_connections()

    async def forget_connections(self) -> None:
        """Close the connections over HTTP; the next login makes new ones."""
        await self.http.close()
        self.http.connector = discord.utils.MISSING  # closed with its session, and discord.py would use it again

    async def on_message(self, message: discord.Message) -> None:
        """Leave messages to the cog: "@bot hello" is no command named hello."""


def options_of(settings: DiscordSettings) -> Options:
    """Return the plug-in's options."""
    return Options(
        compare_share=settings.compare_share,
        compare_style=settings.compare_style,
        servers=settings.servers,
        edit_every_s=settings.edit_every_s,
        most_edits=settings.most_edits,
    )
