"""`await bot.load_extension("thumbwise.discord.host")`: the host answers, only the rating is ours."""

from discord.ext import commands

from thumbwise.discord.cog import DiscordRating, client_of_environment
from thumbwise.discord.keyboards import COG_NAME


async def setup(bot: commands.Bot | commands.AutoShardedBot) -> None:
    """Add the cog to a host's bot."""
    await bot.add_cog(DiscordRating(bot, client_of_environment(), mode="host", close_client=True))


async def teardown(bot: commands.Bot | commands.AutoShardedBot) -> None:
    """Take it away: discord.py itself removes only the cogs of modules below the extension's own."""
    await bot.remove_cog(COG_NAME)
