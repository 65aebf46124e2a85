"""The Discord bot over the wire: connections that break and resume, 429, answers that are lost, reactions.

simcord (the other tests of this folder) hands events to discord.py in its own process; here a real connection breaks.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import discord
import httpx
import pytest
import yarl

from bot.discord.process import DiscordBot, run_until
from bot.settings import DiscordSettings
from bot.tokens import TokenRefused
from feedback_store.feedback import effective_feedback, recent_feedback
from feedback_store.replies import recent_replies
from tests.bots import RunningBot
from tests.discord.wire import Flood, Wire, wire_at_port
from tests.discord.wire_payloads import BOT_ID, CHANNEL_ID, TOKEN, Json, labels
from tests.discord.wire_people import Person
from tests.web.parts import Site
from tests.web.running import ADMIN_TOKEN

MESSAGES = r"/channels/\d+/messages"
EDITS = r"/channels/\d+/messages/\d+"


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    wire = Wire()
    with wire_at_port(wire) as url:
        monkeypatch.setattr(discord.http.Route, "BASE", f"{url}/api")
        monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(f"ws{url[4:]}"))
        monkeypatch.setattr(discord.Client, "before_identify_hook", at_once)
        yield wire


async def at_once(client: discord.Client, shard_id: int | None, *, initial: bool) -> None:
    """Let a second IDENTIFY follow without the five seconds that Discord wants between two."""


StartBot = Callable[..., RunningBot]


@pytest.fixture
def start_bot(site: Site, wire: Wire, tmp_path: Path) -> Iterator[StartBot]:
    """Start the bot with these settings; it is stopped after the test, and must not have failed."""
    started: list[RunningBot] = []

    def start(**settings: object) -> RunningBot:
        values = {"compare_share": 0.0, "shard_count": 1, "edit_every_s": 1, "sync_commands": False, **settings}
        bot = DiscordBot(tmp_path / "bot", site.url, DiscordSettings.model_validate(values), TOKEN, ADMIN_TOKEN)
        started.append(RunningBot(lambda stopping: run_until(bot, stopping)))
        return started[-1]

    yield start
    site.engine.gate.set()
    for running in started:
        running.stop()
        if running.error is not None:
            raise running.error


@pytest.fixture
def anna(site: Site, wire: Wire) -> Person:
    decline(site, 41)
    return Person(wire, 41)


def decline(site: Site, user_id: int) -> None:
    """Let somebody have said no, so that nobody is asked while something else is looked at."""
    body = {"rater": str(user_id), "channel": "discord", "given": False}
    assert httpx.post(f"{site.url}/v1/consent", json=body, trust_env=False).status_code == 200


def thumbs(site: Site) -> list[object]:
    return [one.act.thumb for one in reversed(site.store.read(recent_feedback, 1000))]


def test_a_message_is_answered_and_a_press_acknowledged_and_shown(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    anna.says("echo: over the wire")
    (reply,) = anna.hears()
    assert reply["content"] == "over the wire"
    anna.is_answered(anna.presses(reply, "👍"))
    wire.wait(lambda: "✅ 👍" in labels(reply), "the tick")
    assert thumbs(site) == ["up"]
    wire.wait(lambda: wire.counts["heartbeat"] >= 2, "heartbeats")


@pytest.mark.parametrize("closed", [False, True], ids=["torn", "closed with 4000"])
def test_after_a_broken_connection_no_vote_is_lost_or_doubled(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person, closed: bool
) -> None:
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    anna.says("hello")
    (reply,) = anna.hears()
    anna.is_answered(anna.presses(reply, "👍"))
    wire.wait(lambda: thumbs(site) == ["up"], "the first vote")
    wire.break_connection(closed=closed)
    missed = anna.presses(reply, "👎")  # nobody hears it now
    anna.says("echo: said while nobody listened")
    wire.repeat_on_resume = 2  # Discord may tell again what the bot had heard: the first vote is among it
    wire.mend()
    anna.is_answered(missed)
    wire.wait(lambda: wire.counts["resume"] == 1, "the resumption")
    assert [message["content"] for message in anna.hears(2)][1] == "said while nobody listened"
    wire.wait(lambda: "✅ 👎" in labels(reply), "the tick")
    assert thumbs(site) == ["up", "down"]
    assert [one.act.thumb for one in site.store.read(effective_feedback)] == ["down"]
    assert (wire.counts["identify"], wire.counts["refused_resume"]) == (1, 0)
    assert len(site.store.read(recent_replies, 10)) == 2


def all_show(replies: list[Json], label: str) -> bool:
    return all(label in labels(reply) for reply in replies)


def test_many_breaks_in_a_row_lose_no_vote_of_many_people(start_bot: StartBot, site: Site, wire: Wire) -> None:
    people = [Person(wire, 100 + number) for number in range(12)]
    for person in people:
        decline(site, person.user_id)
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    replies = []
    for person in people:
        person.says("hello")
    for person in people:
        replies.append(person.hears()[0])
    for turn in range(3):
        wire.break_connection(closed=turn == 1)
        label = "👎" if turn == 1 else "👍"
        asked = [person.presses(reply, label) for person, reply in zip(people, replies, strict=True)]
        wire.repeat_on_resume = len(people) // 2
        wire.mend()
        for one in asked:
            people[0].is_answered(one)
        # A press means what stands on the button: the next one waits until this one is shown.
        wire.wait(partial(all_show, replies, f"✅ {label}"), "the ticks")
    assert len(thumbs(site)) == 3 * len(people)
    effective = [one.act.thumb for one in site.store.read(effective_feedback)]
    assert effective == ["up"] * len(people)
    assert wire.counts["resume"] == 3


def test_a_session_that_discord_has_forgotten_is_begun_anew(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    anna.says("echo: before")
    anna.hears()
    wire.break_connection()
    wire.forget_sessions()
    wire.mend()
    wire.wait(lambda: wire.counts["identify"] == 2, "a new session")
    anna.says("echo: after")
    assert anna.hears(2)[1]["content"] == "after"


def test_what_discord_will_not_take_now_is_sent_when_it_says(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    wire.floods.extend([Flood("POST", MESSAGES, 0.5), Flood("POST", MESSAGES, 0.5)])
    anna.says("echo: patience")
    assert anna.hears()[0]["content"] == "patience"
    sent = wire.calls_of("POST", MESSAGES)
    assert [call.status for call in sent] == [429, 429, 200]
    assert all(later.at - call.at >= 0.5 for call, later in itertools.pairwise(sent))


def test_a_growing_reply_whose_edits_are_refused_comes_whole_in_the_end(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    site.engine.gate.clear()
    anna.says("echo: one two three")
    wire.wait(lambda: wire.calls_of("POST", MESSAGES), "the beginning")
    wire.floods.append(Flood("PATCH", EDITS, 1.0))
    site.engine.gate.set()
    (reply,) = anna.hears()
    wire.wait(lambda: labels(reply)[:2] == ["👍", "👎"], "the whole reply")
    assert reply["content"] == "one two three" and len(anna.hears()) == 1
    assert [call.status for call in wire.calls_of("PATCH", EDITS)][:2] == [429, 200]


def test_a_reaction_to_a_reply_that_still_grows_is_a_vote_on_it(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    site.engine.gate.clear()
    anna.says("echo: it grows")
    (growing,) = anna.hears()
    anna.reacts(growing, "👎")
    anna.reacts(growing, "👎", away=True)
    anna.reacts(growing, "👍")
    site.engine.gate.set()
    wire.wait(lambda: "✅ 👍" in labels(growing), "the tick")
    wire.wait(lambda: [one.act.thumb for one in site.store.read(effective_feedback)] == ["up"], "what holds in the end")
    (reply,) = site.store.read(recent_replies, 9)
    assert {one.act.reply_id for one in site.store.read(recent_feedback, 9)} == {reply.reply_id}


def test_a_reply_whose_receipt_was_lost_does_not_stand_there_twice(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    wire.lost_answers.append(("POST", MESSAGES))
    anna.says("echo: once")
    wire.wait(lambda: len(wire.calls_of("POST", MESSAGES)) == 2, "the second try")
    (reply,) = wire.wait(lambda: [found for found in anna.hears() if labels(found)], "the reply with its buttons")
    assert reply["content"] == "once" and len(anna.hears()) == 1
    assert len(site.store.read(recent_replies, 10)) == 1


def test_a_reaction_is_a_thumb_heard_also_after_a_break_and_taking_it_away_a_retract(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    anna.says("hello")
    (reply,) = anna.hears()
    anna.reacts(reply, "👍")
    wire.wait(lambda: thumbs(site) == ["up"], "the vote")
    wire.break_connection()
    anna.reacts(reply, "👍", away=True)
    anna.reacts(reply, "👎")
    wire.mend()
    wire.wait(lambda: [one.act.thumb for one in site.store.read(effective_feedback)] == ["down"], "the other vote")
    anna.reacts(reply, "👎", away=True)
    wire.wait(lambda: site.store.read(effective_feedback) == [], "no vote")
    assert set(thumbs(site)) <= {"up", "down", None} and len(thumbs(site)) <= 4


def test_in_a_server_it_hears_only_who_names_it_and_counts_everybodys_votes(
    start_bot: StartBot, site: Site, wire: Wire
) -> None:
    anna, ben = Person(wire, 51, CHANNEL_ID), Person(wire, 52, CHANNEL_ID)
    start_bot()
    wire.wait(lambda: wire.sessions, "the bot")
    anna.says("a word among members")
    anna.says(f"<@{BOT_ID}> echo: named")
    (reply,) = anna.hears()
    wire.wait(lambda: reply["content"] == "named" and labels(reply), "the reply")
    for person in (anna, ben):
        person.is_answered(person.presses(reply, "👍"))
    wire.wait(lambda: "👍 2" in labels(reply), "both votes")
    # Anna's buttons may be drawn while Ben's vote is on its way to the store.
    wire.wait(lambda: len(site.store.read(effective_feedback)) == 2, "both votes in the store")
    assert "a word among members" not in str([row.messages for row in site.store.read(recent_replies, 10)])


def test_two_shards_share_the_work_and_each_resumes_by_itself(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    member = Person(wire, 61, CHANNEL_ID)
    start_bot(shard_count=2)
    wire.wait(lambda: len(wire.sessions) == 2, "both shards")
    assert {session.shard for session in wire.sessions.values()} == {(0, 2), (1, 2)}
    wire.break_connection()
    anna.says("echo: in private")
    member.says(f"<@{BOT_ID}> echo: in a server")
    wire.mend()
    assert anna.hears()[0]["content"] == "in private"
    assert member.hears()[0]["content"] == "in a server"
    assert wire.counts["resume"] == 2


def test_a_token_that_was_reset_stops_the_bot_and_says_so(start_bot: StartBot, wire: Wire) -> None:
    wire.revoked = True
    running = start_bot()
    wire.wait(lambda: running.ended, "the bot to end")
    assert isinstance(running.error, TokenRefused) and TOKEN not in str(running.error)
    running.error = None
