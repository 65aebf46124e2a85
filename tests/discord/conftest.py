"""The real bot over the real server, in a simulated Discord (simcord): only Discord and the model are stand-ins."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import discord
import httpx
import pytest
import simcord

from bot.discord.client import ThumbwiseBot
from bot.discord.process import DiscordBot, built
from bot.settings import DiscordSettings
from feedback_store.feedback import recent_feedback
from tests.bots import scripted_site
from tests.canaries import said, searched_logs
from tests.web.parts import Site
from tests.web.running import ADMIN_TOKEN
from thumbwise.discord import COG_NAME, DiscordRating

TOKEN = base64.urlsafe_b64encode(b"1096712345678901234").decode().rstrip("=") + ".Canary.token-of-discord-never-in-logs"


@pytest.fixture(scope="module", autouse=True)
def _searched_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a module's last test if a token, or what somebody wrote, stands in any log of the module."""
    told, secrets = (TOKEN, ADMIN_TOKEN), (TOKEN.rpartition(".")[2],)
    with searched_logs(tmp_path_factory.mktemp("logs"), tmp_path_factory.getbasetemp(), told, secrets):
        yield


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with scripted_site(tmp_path) as site:
        yield site


@dataclass(slots=True)
class World:
    """A simulated Discord with our bot in it. `restart` ends the bot and starts it again, as a kill would."""

    env: simcord.Env
    start: Callable[..., Awaitable[ThumbwiseBot]]
    parts: AsyncExitStack
    guild: Any = None
    channel: Any = None
    languages: dict[int, str] = field(default_factory=dict)

    @property
    def bot(self) -> ThumbwiseBot:
        bot: Any = self.env.bot
        return bot

    @property
    def rating(self) -> DiscordRating:
        """The cog of the bot that runs now."""
        cog: Any = self.bot.get_cog(COG_NAME)
        return cog

    def person(self, name: str, language: str = "en-US") -> Any:
        """A person who is a member of the server; `dm` sends, `user` is them outside it."""
        user = self.env.create_user(name)
        self.languages[user.id] = language
        return self.guild.add_member(user)

    def dm(self, person: Any) -> list[discord.Message]:
        """What the bot said in direct messages to a person, oldest first."""
        history = person.user.dm_channel.history()
        return [message for message in history if message.author.id != person.id]

    def said(self) -> list[discord.Message]:
        """What the bot said in the server's channel, oldest first, whispers left out."""
        return [message for message in self.channel.history() if message.author.bot]

    async def restart(self, **settings: object) -> None:
        """Let the bot's process end and another one begin."""
        await self.parts.aclose()
        await self.env.restart_bot(await self.start(**settings))

    async def until(self, found: Callable[[], Any], what: str = "") -> Any:
        """Wait for something that the bot does by itself, beside what a person does."""
        deadline = asyncio.get_running_loop().time() + 20
        while not (value := found()):
            assert asyncio.get_running_loop().time() < deadline, f"waited 20 s for {what or found}"
            await self.env.settle()
            await asyncio.sleep(0.01)
        return value


Story = Callable[[World], Awaitable[None]]
Play = Callable[..., None]


@pytest.fixture
def play(site: Site, tmp_path: Path) -> Iterator[Play]:
    """Play a story in a world whose bot has these settings."""

    def run(story: Story, *, server_url: str | None = None, admin_token: str | None = ADMIN_TOKEN, **settings: object):
        asyncio.run(played(story, tmp_path / "bot", server_url or site.url, admin_token, settings))

    yield run
    site.engine.gate.set()


async def played(
    story: Story, folder: Path, url: str, admin_token: str | None, settings: dict[str, object], limit_s: float = 60.0
) -> None:
    """Play a story in a world whose bot keeps its file in `folder` and speaks to the server at `url`."""
    parts = AsyncExitStack()
    given = {"compare_share": 0.0, "shard_count": 1, "edit_every_s": 1, **settings}

    async def start(**changed: object) -> ThumbwiseBot:
        values = DiscordSettings.model_validate({**given, **changed})
        bot = DiscordBot(folder, url, values, TOKEN, admin_token)
        return await parts.enter_async_context(built(bot))

    async with parts, simcord.run(await start(), settle_timeout=30.0) as env:
        world = World(env, start, parts)
        world.guild = env.create_guild()
        world.channel = world.guild.create_text_channel("general")
        speak_languages(world)
        await story(world)


def speak_languages(world: World) -> None:
    """Let people's interactions carry their own language: the simulation gives everybody's as English. What they write
    must stand in no log."""
    emit = world.env.backend.emit

    def with_language(event: str, payload: Any, *args: Any, **kwargs: Any) -> Any:
        if event == "MESSAGE_CREATE" and not payload["author"].get("bot"):
            said(payload["content"])
        if event == "INTERACTION_CREATE":
            user = payload.get("user") or payload["member"]["user"]
            payload["locale"] = world.languages.get(int(user["id"]), "en-US")
        return emit(event, payload, *args, **kwargs)

    world.env.backend.emit = with_language  # type: ignore[method-assign]


def labels(message: Any) -> list[str]:
    """The labels of the buttons below a message."""
    found: list[str] = []

    def look(components: Any) -> None:
        for component in components or ():
            values = component if isinstance(component, dict) else component.to_dict()
            if values.get("type") == 2:
                found.append(values.get("label", ""))
            look(values.get("components"))

    look(message.components)
    return found


def acts(site: Site) -> list[tuple[str, object]]:
    """What was stored of people's acts, oldest first: the kind, and what it says."""
    found = site.store.read(recent_feedback, 1000)
    return [(one.act.kind, one.act.thumb or one.act.verdict or one.act.correction) for one in reversed(found)]


def sent_edits(world: World) -> list[Any]:
    """The edits of messages that the bot asked Discord for."""
    return [one for one in world.env.http_requests if one.method == "PATCH" and "/messages/" in one.path]


def agreed(site: Site, *people: Any, given: bool = True) -> None:
    """Let these people have answered the question of consent."""
    for person in people:
        body = {"rater": str(person.id), "channel": "discord", "given": given}
        assert httpx.post(f"{site.url}/v1/consent", json=body, trust_env=False).status_code == 200
