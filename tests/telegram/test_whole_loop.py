"""The whole loop through Telegram, on a tiny model: chats, votes, a round that an admin starts from the chat, its gate,
the swap, and the next reply stamped with the new version; then a rollback from the chat."""

import time
from pathlib import Path

import pytest

from bot.settings import TelegramSettings
from bot.telegram.process import TelegramBot, run_until
from tests.bots import RunningBot
from tests.command.conftest import start_server, stop_server
from tests.telegram.conftest import ADMIN
from tests.telegram.wire import TOKEN, Json, Person, Wire, labels
from thumbwise.client import Thumbwise

PEOPLE = 16
EASY = """
[serving]
default_reply_tokens = 12
[rounds]
min_thumbs = 20
min_minority = 3
min_raters = 8
min_prompts = 8
[training]
learning_rate = 1e-2
batch_size = 8
epochs = 1
threads = 1
niceness = 0
dtype = "float32"
[gate]
replies = 12
reply_tokens = 12
min_replies = 4
min_held_out_votes = 4
max_kl_live_nats = 1e6
max_kl_base_nats = 1e6
max_short_rise = 1
max_empty = 1
max_repeat_rise = 1
min_distinct_ratio = 0
max_same_opening = 1
max_phrase_share = 1
max_perplexity_rise = 1e6
"""


def last_with(wire: Wire, chat: int, found: str) -> Json:
    """Wait for a message of the bot that holds a text, in its words or its keys; the last such one."""

    def look() -> Json | None:
        return next((one for one in reversed(wire.sent_to(chat)) if found in one["text"] or found in labels(one)), None)

    message: Json = wire.wait(look, f"a message with {found!r}", 120)
    return message


@pytest.mark.timeout(400)
def test_what_people_rate_on_telegram_is_learnt_served_and_taken_back(
    tmp_path: Path, wire: Wire, telegram_url: str, tiny_model_dir: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "thumbwise.toml").write_text(EASY)
    server = start_server(data, tiny_model_dir)
    token = (data / "admin.token").read_text().strip()
    settings = TelegramSettings(
        api_url=telegram_url, compare_share=0, admin_ids=(ADMIN,), operator_chats=(ADMIN,), notice_every_s=1
    )
    bot = TelegramBot(tmp_path / "bot", server.url, settings, TOKEN, token)
    running = RunningBot(lambda stopping: run_until(bot, stopping))
    try:
        with Thumbwise(server.url, token) as client:
            _loop(wire, client)
    finally:
        running.stop()
        assert stop_server(server) == 0
    assert running.error is None


def _loop(wire: Wire, client: Thumbwise) -> None:
    admin = Person(wire, ADMIN)
    people = [Person(wire, 100 + number) for number in range(PEOPLE)]
    for person in people:
        client.give_consent(str(person.user_id), "telegram", True)
    client.give_consent(str(ADMIN), "telegram", False)
    for turn in range(2):
        for person in people:
            person.says(f"tell me about number {person.user_id} and {turn}")
        for person in people:
            reply = person.hears(turn + 1)[-1]
            person.is_answered(person.presses(reply, "👍" if (person.user_id + turn) % 2 else "👎"))
    assert client.versions()[-1].version == 1

    admin.says("/align start force")
    admin.is_answered(admin.presses(last_with(wire, ADMIN, "Start"), "Start"))
    last_with(wire, ADMIN, "Round 1 is requested.")
    ended = last_with(wire, ADMIN, " its gate.")  # passed or not: so few votes need not convince it
    assert "Round 1" in ended["text"]
    (round_,) = client.rounds()
    assert round_.candidate_version == 2, round_.reason
    if round_.state == "rejected":
        admin.says("/promote 2 force")
        admin.is_answered(admin.presses(last_with(wire, ADMIN, "Promote"), "Promote"))
    last_with(wire, ADMIN, "Version 2 is live.")

    assert version_of_next_reply(people[0], client, wire) == 2
    admin.says("/rollback")
    admin.is_answered(admin.presses(last_with(wire, ADMIN, "Roll back"), "Roll back"))
    last_with(wire, ADMIN, "Rolled back: version 1 is live.")
    assert version_of_next_reply(people[1], client, wire) == 1


def version_of_next_reply(person: Person, client: Thumbwise, wire: Wire) -> int:
    """Chat as a person and return the version that the reply is stamped with."""
    before = len(person.hears(0))
    began = time.monotonic()
    person.says("which one are you?")
    reply = person.hears(before + 1)[-1]
    assert "👍" in labels(reply)
    assert time.monotonic() - began < 60
    latest = client.export_rater(str(person.user_id), "telegram")["replies"][-1]
    return int(latest["policy_version"])
