"""A host's program: its own bot.py, a bot on discord.py, our plug-in, and two things that a person does. Run by
test_plugin.py in a process of its own, where the server's libraries cannot be imported."""

import asyncio
import sys
from typing import Any

import discord
import simcord
from discord.ext import commands

import bot  # the host's, in its own folder

assert vars(bot)["OWN"], "the host's bot.py was shadowed"


class Host(commands.Bot):
    """In mode "host" it echoes through the API; in mode "policy" it has only a command of its own."""

    async def setup_hook(self) -> None:
        @self.tree.command(description="the host's own")
        async def ping(interaction: discord.Interaction) -> None:
            await interaction.response.send_message("pong")

        await self.tree.sync()

    async def on_message(self, message: discord.Message) -> None:
        cog: Any = self.get_cog("Thumbwise")
        if message.author.bot or sys.argv[1] != "host":
            return
        answer = await cog.client.chat(message.content, user=str(message.author.id), channel="discord")
        sent = await message.channel.send(answer.text, view=cog.view(message, answer.reply_id))
        await cog.shown(message, sent, answer.reply_id)


def labels(message: Any) -> list[str]:
    return [child.label for row in message.components for child in row.children]


async def main(mode: str) -> None:
    host = Host(commands.when_mentioned, intents=discord.Intents.default())
    await host.load_extension("thumbwise.discord.host" if mode == "host" else "thumbwise.discord")
    await host.reload_extension("thumbwise.discord.host" if mode == "host" else "thumbwise.discord")
    async with simcord.run(host, settle_timeout=30.0) as env:
        guild = env.create_guild()
        channel = guild.create_text_channel("general")
        anna = guild.add_member(env.create_user("anna"))
        history = anna.user.dm_channel.history
        await anna.send_dm("echo: from a plug-in")
        *before, reply = [said for said in history() if said.author.bot]
        assert reply.content == "from a plug-in" and len(before) == (mode == "policy"), history()
        assert labels(reply)[:2] == ["👍", "👎"] and len(labels(reply)) == (2 if mode == "host" else 4)
        await anna.user.click(reply, label="👎")
        assert "✅ 👎" in labels([said for said in history() if said.author.bot][-1])
        env.backend.set_reaction(reply.channel.id, reply.id, "👍", anna.id, True)
        await env.settle()
        assert (await anna.slash(channel, "ping")).response.content == "pong"
        assert {command.name for command in host.tree.get_commands()} == (
            {"ping"} if mode == "host" else {"ping", "new", "privacy", "consent", "export", "forget", "regenerate"}
        )
        told = [one.path for one in env.http_requests if one.method == "PUT" and "/commands" in one.path]
        assert len(told) == 1, "only the host tells Discord the commands"
    await host.unload_extension("thumbwise.discord.host" if mode == "host" else "thumbwise.discord")
    assert host.get_cog("Thumbwise") is None


asyncio.run(main(sys.argv[1]))
