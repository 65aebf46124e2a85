"""kill -9 of the Telegram bot in the middle of a storm of presses, reactions and messages, again and again.

Telegram is the fake of the tests (a confirmed update never comes again), the server is the server of words and lives
on. Every update must have its effect once: a press or a reaction one row of feedback under its own key, a message one
reply in its chat. The bot is the command `thumbwise bot telegram`, nothing else.
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._server_process import running_server
from benchmarks._word_server import ADMIN_TOKEN
from tests.telegram.wire import BOT_ID, TOKEN, Call, Person, Wire, wire_at_port

PEOPLE = 24
BACKLOG = 60
"""Updates that wait unconfirmed at any time."""
MESSAGE_SHARE, REACTION_SHARE = 0.08, 0.1
LEAST_CALLS, MOST_CALLS = 5, 160
"""The bot lives for this many of its requests, drawn anew each time."""
LOOK_EVERY_S = 0.02
"""Patience is counted in looks: time in which the machine stood still for everybody does not count."""
START_TIMEOUT_S, END_TIMEOUT_S = 60.0, 300.0


@dataclass(frozen=True, slots=True)
class StormReport:
    """What a storm left behind."""

    kills: int
    updates: int
    """Confirmed by the bot."""
    votes: int
    votes_lost: int
    votes_doubled: int
    votes_wrong: int
    """Rows whose thumb is not the one that was pressed."""
    messages: int
    messages_lost: int
    messages_doubled: int
    left_in_inbox: int

    @property
    def clean(self) -> bool:
        """Whether nothing was lost or doubled."""
        bad = (self.votes_lost, self.votes_doubled, self.votes_wrong, self.messages_lost, self.messages_doubled)
        return not any(bad) and not self.left_in_inbox


@dataclass(slots=True)
class Storm:
    """A storm under way."""

    wire: Wire
    dice: random.Random
    wanted: dict[int, str] = field(default_factory=dict)
    """Update → the thumb that it gives."""
    said: Counter[int] = field(default_factory=Counter)
    """Chat → messages that a person wrote."""
    pushed: int = 0

    def push_one(self, people: list[Person], replies: dict[int, dict[str, object]]) -> None:
        """Let somebody do something."""
        person = self.dice.choice(people)
        number = self.wire._next_update
        kind = self.dice.random()
        if kind < MESSAGE_SHARE:
            person.says("hello again")
            self.said[person.user_id] += 1
        elif kind < MESSAGE_SHARE + REACTION_SHARE:
            thumb = self.dice.choice(("up", "down"))
            person.reacts(replies[person.user_id], "", "👍" if thumb == "up" else "👎")
            self.wanted[number] = thumb
        else:
            thumb = self.dice.choice(("up", "down"))
            person.sends_data(replies[person.user_id], self._data(replies[person.user_id], thumb))
            self.wanted[number] = thumb
        self.pushed += 1

    def _data(self, reply: dict[str, object], thumb: str) -> str:
        data: str = reply["data"][thumb]  # type: ignore[index]
        return data


class BotProcess:
    """The command, running."""

    def __init__(self, data: Path, server_url: str, telegram_url: str, log: Path) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("THUMBWISE_")},
            "THUMBWISE_TELEGRAM_TOKEN": TOKEN,
            "THUMBWISE_TELEGRAM_API_URL": telegram_url,
            "THUMBWISE_TELEGRAM_COMPARE_SHARE": "0",
            "THUMBWISE_ADMIN_TOKEN": ADMIN_TOKEN,
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, "-m", "thumbwise", "bot", "telegram", "--data", str(data), "--url", server_url]
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [*command, "--debug"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment,
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip

    @property
    def ended(self) -> int | None:
        """Its exit status, if it has ended by itself."""
        return self._process.poll()

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(30)
        self._log.close()

    def stop(self) -> int:
        """Ask it to end, and return its exit status."""
        self._process.terminate()
        status = self._process.wait(600)
        self._log.close()
        return status


def run_storm(folder: Path, kills: int, updates: int, seed: int) -> StormReport:
    """Kill the bot `kills` times while about `updates` updates come in, then look for each update's effect."""
    wire, dice = Wire(validate=False), random.Random(seed)
    wire.keep_calls = False
    with running_server(folder / "server") as server, wire_at_port(wire) as telegram_url:
        url = f"http://127.0.0.1:{server.port}"

        def start() -> BotProcess:
            return BotProcess(folder / "bot", url, telegram_url, folder / "bot.log")

        bot = start()
        people = [Person(wire, 1_000 + number) for number in range(PEOPLE)]
        replies = _first_replies(wire, people)
        storm = Storm(wire, dice)
        stop = threading.Event()
        feeder = threading.Thread(target=_feed, args=(storm, people, replies, updates, stop), daemon=True)
        feeder.start()
        try:
            for _ in range(kills):
                _wait_for_calls(wire, bot, dice.randint(LEAST_CALLS, MOST_CALLS), lambda: storm.pushed >= updates)
                bot.kill()
                bot = start()
            _wait(lambda: storm.pushed >= updates, "all updates to be pushed", END_TIMEOUT_S)
            last = wire._next_update - 1
            _wait(lambda: wire.confirmed > last, "all updates to be confirmed", END_TIMEOUT_S)
            inbox = folder / "bot" / "bots" / f"telegram-{BOT_ID}.db"
            _wait(lambda: _undone(inbox) == 0, "the inbox to be empty", END_TIMEOUT_S)
        finally:
            stop.set()
            bot.stop()
        left = _undone(inbox)
    return _report(storm, kills, folder, len(people), left)


def _first_replies(wire: Wire, people: list[Person]) -> dict[int, dict[str, object]]:
    """Let everybody say hello, and return each one's reply with the data of its two keys."""
    found: dict[int, dict[str, object]] = {}
    for person in people:
        person.says("hello")
    for person in people:
        reply = _wait(lambda person=person: _rated(wire, person.user_id), "a first reply", START_TIMEOUT_S)  # type: ignore[misc]
        up, down = reply["reply_markup"]["inline_keyboard"][0][:2]
        bare = {key: reply[key] for key in ("message_id", "date", "chat", "from", "text")}
        found[person.user_id] = {**bare, "data": {"up": up["callback_data"], "down": down["callback_data"]}}
    return found


def _rated(wire: Wire, chat: int) -> dict[str, object] | None:
    return next(iter(_rated_all(wire, chat)), None)


def _rated_all(wire: Wire, chat: int) -> list[dict[str, object]]:
    """The replies in a chat: messages with a thumb below them."""
    return [message for message in wire.sent_to(chat) if "👍" in json.dumps(message, ensure_ascii=False)]


def _feed(
    storm: Storm, people: list[Person], replies: dict[int, dict[str, object]], updates: int, stop: threading.Event
) -> None:
    while storm.pushed < updates and not stop.is_set():
        if storm.wire._next_update - storm.wire.confirmed < BACKLOG:
            storm.push_one(people, replies)
        else:
            time.sleep(0.002)


def _wait_for_calls(wire: Wire, bot: BotProcess, count: int, over: Callable[[], bool]) -> None:
    seen = 0
    enough = threading.Event()

    def on_call(call: Call) -> None:
        nonlocal seen
        if call.method in ("sendmessage", "answercallbackquery", "editmessagereplymarkup"):
            seen += 1
            if seen >= count:
                enough.set()

    wire.on_call = on_call
    looks = START_TIMEOUT_S / LOOK_EVERY_S
    while not enough.wait(LOOK_EVERY_S) and not over():
        if bot.ended is not None:
            raise RuntimeError(f"the bot ended by itself with status {bot.ended}")
        if (looks := looks - 1) < 0:
            raise TimeoutError(f"the bot made {seen} of {count} calls in {START_TIMEOUT_S:.0f} s")
    wire.on_call = lambda call: None


def _wait(found: Callable[[], object], what: str, patience_s: float):  # type: ignore[no-untyped-def]
    looks = patience_s / LOOK_EVERY_S
    while not (value := found()):
        if (looks := looks - 1) < 0:
            raise TimeoutError(f"waited {patience_s:.0f} s in vain for {what}")
        time.sleep(LOOK_EVERY_S)
    return value


def _undone(inbox: Path) -> int:
    with closing(sqlite3.connect(f"file:{inbox}?mode=ro", uri=True, timeout=10)) as connection:
        return int(connection.execute("SELECT count(*) FROM inbox WHERE NOT done").fetchone()[0])


def _report(storm: Storm, kills: int, folder: Path, people: int, left: int) -> StormReport:
    with closing(sqlite3.connect(folder / "server" / "thumbwise.db", timeout=10)) as connection:
        rows = connection.execute("SELECT idempotency_key, thumb FROM feedback").fetchall()
    stored = Counter(key for key, _ in rows)
    thumb_of = dict(rows)
    keys = {f"telegram:{BOT_ID}:{number}": thumb for number, thumb in storm.wanted.items()}
    lost = doubled = 0
    for chat, said in storm.said.items():
        heard = len(_rated_all(storm.wire, chat)) - 1  # the first one was before the storm
        lost, doubled = lost + max(0, said - heard), doubled + max(0, heard - said)
    return StormReport(
        kills=kills,
        updates=storm.wire.confirmed - 1,
        votes=len(keys),
        votes_lost=sum(1 for key in keys if not stored[key]),
        votes_doubled=sum(count - 1 for count in stored.values()),
        votes_wrong=sum(1 for key, thumb in keys.items() if stored[key] and thumb_of[key] != thumb),
        messages=storm.said.total(),
        messages_lost=lost,
        messages_doubled=doubled,
        left_in_inbox=left,
    )
