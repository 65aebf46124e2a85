"""The plug-in for a bot that runs on discord.py: our replies in it, or only our rating buttons below its own.

    bot = commands.Bot(commands.when_mentioned, intents=INTENTS)
    await bot.load_extension("thumbwise.discord")                  # our policy answers; the server is THUMBWISE_URL
    await bot.load_extension("thumbwise.discord.host")             # or: the host answers, only the rating is ours
    await bot.add_cog(DiscordRating(bot, client, mode="host"))     # the same with a client and settings of your own

A bot that writes its own replies keeps doing so:

    rating = bot.get_cog("Thumbwise")
    answer = await rating.client.chat(text, user=str(message.author.id), channel="discord")
    await rating.reply(message, answer.text, answer.reply_id)      # or: view=rating.view(message, answer.reply_id)

It never takes the bot over: listeners and dynamic items of ours see only what is ours, commands are added to the host's
tree and never synced by us. docs/discord.md shows both in ten lines.

This module stays a mere door: `load_extension` executes it again and puts the copy in its own place, so a class that
was defined here would exist twice.
"""

from discord.ext import commands

from thumbwise.discord.cog import DiscordRating, client_of_environment
from thumbwise.discord.keyboards import COG_NAME
from thumbwise.discord.parts import INTENTS, Options

__all__ = ["COG_NAME", "INTENTS", "DiscordRating", "Options", "setup"]


async def setup(bot: commands.Bot | commands.AutoShardedBot) -> None:
    """Let our policy answer in a host's bot: what `await bot.load_extension("thumbwise.discord")` calls."""
    await bot.add_cog(DiscordRating(bot, client_of_environment(), close_client=True))
