"""The whole loop through Discord, on a tiny model: chats, votes, a round that an admin starts from the chat, its gate,
the swap, and the next reply stamped with the new version; then a rollback from the chat."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.command.conftest import start_server, stop_server
from tests.discord.conftest import World, labels, played
from tests.telegram.test_whole_loop import EASY
from thumbwise.client import AsyncThumbwise, Round

PEOPLE = 16
PERMITTED = EASY.replace("[rounds]", '[rounds]\ndiscord_permission = "ticket 1 of 2026-11-21"')


@pytest.mark.timeout(400)
def test_what_people_rate_on_discord_is_learnt_served_and_taken_back(tmp_path: Path, tiny_model_dir: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "thumbwise.toml").write_text(PERMITTED)
    server = start_server(data, tiny_model_dir)
    token = (data / "admin.token").read_text().strip()

    async def story(world: World) -> None:
        async with AsyncThumbwise(server.url, token) as client:
            await _loop(world, client)

    try:
        asyncio.run(played(story, tmp_path / "bot", server.url, token, {}, limit_s=380))
    finally:
        assert stop_server(server) == 0


async def _loop(world: World, client: AsyncThumbwise) -> None:
    boss = world.person("boss")
    await world.restart(admin_ids=(boss.id,))
    people = [world.person(f"person{number}") for number in range(PEOPLE)]
    for person in people:
        assert not (await client.give_consent(str(person.id), "discord", True)).held_back
    for turn in range(2):
        for number, person in enumerate(people):
            await person.send_dm(f"tell me about number {number} and {turn}")
            await person.user.click(world.dm(person)[-1], label="👍" if (number + turn) % 2 else "👎")
    assert (await client.versions())[-1].version == 1

    asked = await boss.user.slash("align start", force=True)
    await boss.user.click(asked.response, label="Start")
    assert asked.response.content == "Round 1 is requested."
    round_ = await _ended(client)
    assert round_.candidate_version == 2, round_.reason
    if round_.state == "rejected":  # so few votes need not convince the gate
        asked = await boss.user.slash("promote", number=2, force=True)
        await boss.user.click(asked.response, label="Promote")
        assert asked.response.content == "Version 2 is live."
    assert await version_of_next_reply(world, people[0], client) == 2
    asked = await boss.user.slash("rollback")
    await boss.user.click(asked.response, label="Roll back")
    assert asked.response.content == "Rolled back: version 1 is live."
    assert await version_of_next_reply(world, people[1], client) == 1


async def _ended(client: AsyncThumbwise) -> Round:
    while True:
        (round_,) = await client.rounds()
        if round_.ended:
            return round_
        await asyncio.sleep(0.1)


async def version_of_next_reply(world: World, person: Any, client: AsyncThumbwise) -> int:
    """Chat as a person and return the version that the reply is stamped with."""
    before = len(world.dm(person))
    await person.send_dm("which one are you?")
    assert len(world.dm(person)) == before + 1 and "👍" in labels(world.dm(person)[-1])
    latest = (await client.export_rater(str(person.id), "discord"))["replies"][-1]
    return int(latest["policy_version"])
