"""Operators run the loop from Discord: only configured ids, with confirmation, and told of what happens."""

import logging

import pytest

from feedback_store.store import Store
from feedback_store.versions import add_candidate, deployments
from tests.discord.conftest import Play, World, labels
from tests.web.parts import Site


def candidate(store: Store) -> None:
    """Let version 2 wait for an admin."""
    store.write(
        add_candidate,
        base_model="scripted", adapter_sha256="a" * 64, parent=1, method="kto", round_id=None,
        gate_report={"outcome": "pass"}, metrics={},
    )  # fmt: skip


def test_an_admin_promotes_and_rolls_back_with_confirmation_and_nobody_else_does(
    play: Play, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    candidate(site.store)
    caplog.set_level(logging.INFO, logger="bot.admin")

    async def story(world: World) -> None:
        boss, anna, mei = world.person("boss"), world.person("anna"), world.person("mei", "zh-CN")
        role = world.guild.create_role("may manage", permissions=manage_servers())
        deputy = world.guild.add_member(world.env.create_user("deputy"), roles=[role])
        news = world.guild.create_text_channel("news")
        await world.restart(
            admin_ids=(boss.id, mei.id),
            operator_channels=(news.id, 1),
            operator_users=(anna.id, mei.id),
            notice_every_s=3600,
        )
        await world.until(lambda: "align status" in deputy.available_commands(world.channel), "the commands")
        assert "promote" not in anna.available_commands(world.channel)
        refused = await deputy.slash(world.channel, "promote", number=2)
        assert refused.ephemeral and "operators" in refused.response.content and labels(refused.response) == []
        versions = await boss.user.slash("versions")
        assert "2 · candidate" in versions.response.content
        assert "2 · 候选" in (await mei.user.slash("versions")).response.content
        status = await boss.user.slash("align status")
        assert "Live: version 1" in status.response.content
        await boss.user.slash("align cancel")
        assert labels((await boss.user.slash("align start", force=True)).response) == ["Start", "Cancel"]
        asked = await boss.user.slash("promote", number=2)
        assert labels(asked.response) == ["Promote", "Cancel"] and "in place of 1" in asked.response.content
        await boss.user.click(asked.response, label="Promote")
        assert asked.response.content == "Version 2 is live." and labels(asked.response) == []
        await world.env.advance_time(3601)
        await world.until(lambda: news.last_message is not None, "the notice")
        assert "🚀 Version 2 is live." in news.last_message.content
        await world.until(lambda: any("🚀" in said.content for said in world.dm(anna)), "the direct message")
        await world.until(
            lambda: any("🚀 版本 2 已上线。" in said.content for said in world.dm(mei)), "her own language"
        )
        (move, _) = site.store.read(deployments, 10)
        assert (move.action, move.version, move.reason) == ("promote", 2, f"by discord {boss.id}")
        back = await boss.user.slash("rollback")
        dismissed = await boss.user.slash("rollback")
        await boss.user.click(dismissed.response, label="Cancel")
        assert dismissed.response.content == "Cancelled."
        await boss.user.click(back.response, label="Roll back")
        assert back.response.content == "Rolled back: version 1 is live."
        said = [record.getMessage() for record in caplog.records if record.name == "bot.admin"]
        assert f"admin act=promote target=2:1 channel=discord user={boss.id} result=done" in said
        assert any("refused" in line and str(deputy.id) in line for line in said)

    play(story)


def manage_servers() -> object:
    import discord

    return discord.Permissions(manage_guild=True)
