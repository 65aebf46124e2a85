"""The process behind `thumbwise bot discord`: file, client, bot, put together and taken apart in order."""

import asyncio
import base64
import binascii
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import discord
import httpx

from bot.admin import AdminDesk
from bot.book import FileBook
from bot.button_keys import button_secrets
from bot.discord.client import ThumbwiseBot, options_of
from bot.discord.operating import add_admin_commands, sync_commands, tell_operators, watch
from bot.notices import Notice, NoticeBoard
from bot.operators import OperatorLanguages
from bot.running import run_until_signalled
from bot.settings import DiscordSettings
from bot.tokens import TokenRefused
from feedback_store import bot_file
from feedback_store.store import Store
from thumbwise.client import AsyncThumbwise
from thumbwise.client.asynchronous import DEFAULT_TIMEOUT
from thumbwise.client.retries import Retries
from thumbwise.discord import DiscordRating
from thumbwise.discord.outbox import FAILURES

log = logging.getLogger(__name__)

TIDY_EVERY_S = 3600.0
LONGEST_PAUSE_S = 30.0
REVOKED = "discord refused the bot's token: was it reset? Set THUMBWISE_DISCORD_TOKEN to the right one"


@dataclass(frozen=True, slots=True)
class DiscordBot:
    """What the process is told. The token and the admin's token stay out of every log and repr."""

    data_dir: Path
    server_url: str
    settings: DiscordSettings
    token: str = field(repr=False)
    admin_token: str | None = field(default=None, repr=False)


def run(bot: DiscordBot) -> None:
    """Run until SIGTERM or Ctrl-C. Raises TokenRefused, and Conflict when another process runs this bot."""
    run_until_signalled(lambda stopping: run_until(bot, stopping))


async def run_until(bot: DiscordBot, stopping: asyncio.Event) -> None:
    """Run until `stopping` is set. Raises as `run` does."""
    async with built(bot) as running:
        stopped = asyncio.create_task(stopping.wait())
        connected = asyncio.create_task(_connected(running, bot.token))
        try:
            await asyncio.wait({stopped, connected}, return_when=asyncio.FIRST_COMPLETED)
            if connected.done():
                connected.result()
        finally:
            await running.close()
            for task in (stopped, connected):
                task.cancel()
            await asyncio.gather(stopped, connected, return_exceptions=True)
            log.info("discord bot has stopped")


@contextlib.asynccontextmanager
async def built(bot: DiscordBot) -> AsyncIterator[ThumbwiseBot]:
    """Put a bot together that is ready to log in; take it apart afterwards."""
    folder = bot.data_dir / "bots"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    shards = "".join(f"-{shard}" for shard in bot.settings.shard_ids)
    async with contextlib.AsyncExitStack() as parts:
        path = folder / f"discord-{bot_id_of(bot.token)}{shards}.db"
        file = parts.enter_context(bot_file.open_bot_file(path))
        client = await parts.enter_async_context(_client(bot))
        tasks: list[asyncio.Task[Any]] = []

        async def cogs(running: ThumbwiseBot) -> None:
            secret = button_secrets(folder, bot.token)
            rating = DiscordRating(
                running, client, options=options_of(bot.settings), book=FileBook(file), secret=secret
            )
            await running.add_cog(rating)
            speaking = OperatorLanguages(file, rating.parts.marks.person, bot.settings.notice_language)
            if bot.settings.admin_ids:
                desk = AdminDesk(client, "discord", frozenset(bot.settings.admin_ids))
                add_admin_commands(rating, desk, speaking)
            tasks.extend(asyncio.create_task(work) for work in _background(bot, running, client, file, speaking))
            log.info("discord bot is up bot=%d shards=%s", rating.parts.bot_id, running.shard_count)

        try:
            yield ThumbwiseBot(bot.settings, cogs)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def bot_id_of(token: str) -> int:
    """Return the bot's id, which a token begins with. Raises TokenRefused for what is no token."""
    first, *others = token.split(".")
    try:
        number = base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        number = ""
    if not number.isdigit() or len(others) != 2:
        raise TokenRefused(
            "THUMBWISE_DISCORD_TOKEN is no bot token; wanted three parts with dots between, from the Bot page of "
            "Discord's developer portal"
        )
    return int(number)


async def _connected(running: ThumbwiseBot, token: str) -> None:
    """Log in, patiently while Discord is away, and stay connected. Raises TokenRefused."""
    pause_s = 0.5
    while True:
        try:
            await running.login(token)
            break
        except discord.LoginFailure as error:
            raise TokenRefused(REVOKED) from error
        except FAILURES as error:
            log.warning("discord cannot be reached cause=%s", type(error).__name__)
        await running.forget_connections()
        await asyncio.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
    await running.connect(reconnect=True)


def _client(bot: DiscordBot) -> AsyncThumbwise:
    """A client with room for many replies under way: a vote must not wait for a connection that a reply holds."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    http = httpx.AsyncClient(base_url=bot.server_url, timeout=DEFAULT_TIMEOUT, trust_env=False, limits=limits)
    return AsyncThumbwise(bot.server_url, bot.admin_token, http=http, retries=Retries(2, patience_s=3.0))


def _background(
    bot: DiscordBot, running: ThumbwiseBot, client: AsyncThumbwise, file: Store, speaking: OperatorLanguages
) -> list[Any]:
    """What runs beside the events."""
    settings = bot.settings

    async def tidy() -> None:
        while True:
            await file.write_async(bot_file.tidy)
            await asyncio.sleep(TIDY_EVERY_S)

    async def tell(notice: Notice) -> None:
        await tell_operators(running, notice, settings.operator_channels, settings.operator_users, speaking)

    work: list[Any] = [tidy()]
    if settings.sync_commands:
        work.append(sync_commands(running, file))
    if (settings.operator_channels or settings.operator_users) and bot.admin_token:
        work.append(watch(NoticeBoard(client, file, tell), settings.notice_every_s))
    return work
