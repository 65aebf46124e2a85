"""The process of the Discord bot before it is connected: a wrong token, Discord away, a stop meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from discord.http import Route

from bot.discord.process import DiscordBot, run_until
from bot.settings import DiscordSettings
from bot.tokens import TokenRefused
from tests.discord.conftest import TOKEN


@asynccontextmanager
async def discord_that_answers(status: int, asked: list[str]) -> AsyncIterator[str]:
    """Discord's API, as far as a login asks it: the same refusal for everything."""

    async def refuse(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"message": "refused", "code": 0}, status=status)

    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", refuse)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def a_bot(folder: Path) -> DiscordBot:
    return DiscordBot(folder, "http://127.0.0.1:9", DiscordSettings(), TOKEN)


def test_a_token_that_discord_refuses_ends_the_process_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with discord_that_answers(401, []) as url:
            monkeypatch.setattr(Route, "BASE", url)
            with pytest.raises(TokenRefused, match="THUMBWISE_DISCORD_TOKEN"):
                await run_until(a_bot(tmp_path), asyncio.Event())

    asyncio.run(story())


def test_while_discord_is_away_it_is_asked_again_until_the_process_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def story() -> None:
        stopping = asyncio.Event()
        async with discord_that_answers(403, asked) as url:
            monkeypatch.setattr(Route, "BASE", url)
            running = asyncio.create_task(run_until(a_bot(tmp_path), stopping))
            async with asyncio.timeout(20):
                while len(asked) < 2:
                    await asyncio.sleep(0.02)
                stopping.set()
                await running

    asyncio.run(story())
