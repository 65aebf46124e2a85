"""How soon a press is answered while 50 chats wait for slow replies, beside a bot that does nothing else.

From the moment Telegram hands the press out to the bot's answerCallbackQuery, the vote stored on the server in between.
The peer is python-telegram-bot alone (_bare_telegram_bot.py): no server, no replies under way, a row of its own SQLite.
"""

import argparse
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._server_process import running_server
from benchmarks._telegram_storm import BotProcess, _first_replies
from benchmarks.report import Row, report
from tests.telegram.wire import TOKEN, Person, Wire, wire_at_port

CHATS, PRESSES, PAUSE_S = 50, 300, 0.03
WORDS, STEP_S = 200, 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presses", type=int, default=PRESSES)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-telegram-clicks-") as folder:
        ours, bare, generating = measure(Path(folder).resolve(), arguments.presses, arguments.seed)
    report(
        "telegram_clicks",
        [
            Row("chats that wait for a reply", generating, unit="chats"),
            Row("half of the presses answered within", statistics.median(ours), statistics.median(bare), unit="ms"),
            Row("95 % of the presses answered within", within(ours, 0.95), within(bare, 0.95), unit="ms"),
            Row("the slowest", max(ours), max(bare), unit="ms"),
        ],
        f"{arguments.presses} presses, one every {PAUSE_S * 1000:.0f} ms, each stored before it is answered; bot, "
        "server and Telegram's stand-in on the same machine. Peer: python-telegram-bot alone, which writes a row of "
        "its own SQLite and answers, with no server and no reply under way.",
        seed=arguments.seed,
    )


def within(waits_ms: list[float], share: float) -> float:
    """Return the wait that this share of the presses stayed under, in ms."""
    return sorted(waits_ms)[math.ceil(len(waits_ms) * share) - 1]


def measure(folder: Path, presses: int, seed: int) -> tuple[list[float], list[float], int]:
    """Return the wait of each press in ms, with our bot and with the bare one, and how many replies were under way at
    our last press."""
    dice, wire = random.Random(seed), Wire(validate=False)
    with (
        running_server(folder / "server", "--words", "4") as quick,
        wire_at_port(wire) as telegram_url,
    ):
        data = folder / "bot"
        bot = BotProcess(data, f"http://127.0.0.1:{quick.port}", telegram_url, folder / "bot.log")
        raters = [Person(wire, 1_000 + number) for number in range(20)]
        replies = _first_replies(wire, raters)
        bot.stop()
        quick_port = quick.port
    # The same store, now behind slow replies, at the same address.
    with (
        running_server(
            folder / "server", "--words", str(WORDS), "--step-s", str(STEP_S), "--port", str(quick_port)
        ) as slow,
        wire_at_port(wire) as telegram_url,
    ):
        wire.closing = False
        bot = BotProcess(data, f"http://127.0.0.1:{slow.port}", telegram_url, folder / "bot.log")
        for number in range(CHATS):
            Person(wire, 5_000 + number).says("hello")
        _until(lambda: wire.counts["sendmessagedraft"] >= CHATS * 2)
        before = wire.counts["sendmessage"]
        ours = press_keys(wire, raters, replies, presses, dice)
        generating = CHATS - (wire.counts["sendmessage"] - before)
        bot.kill()
    with wire_at_port(wire) as telegram_url:
        wire.closing = False
        command = [sys.executable, "-m", "benchmarks._bare_telegram_bot", str(folder / "bare.sqlite"), telegram_url]
        with (
            (folder / "bare.log").open("wb") as log,
            subprocess.Popen([*command, TOKEN], stdout=log, stderr=log) as bare,
        ):
            try:
                press_keys(wire, raters, replies, 1, dice)  # it is up
                theirs = press_keys(wire, raters, replies, presses, dice)
            finally:
                bare.kill()
    return ours, theirs, generating


def press_keys(
    wire: Wire, raters: list[Person], replies: dict[int, dict[str, object]], presses: int, dice: random.Random
) -> list[float]:
    """Let people press a key under their reply, one after the other; return how long each waited, in ms."""
    sent_at: dict[str, float] = {}
    for _ in range(presses):
        person = dice.choice(raters)
        reply = replies[person.user_id]
        data_of_key = reply["data"][dice.choice(("up", "down"))]  # type: ignore[index]
        sent_at[person.sends_data(reply, data_of_key)] = time.monotonic()
        time.sleep(PAUSE_S)
    _until(lambda: all(press in wire.answered_at for press in sent_at))
    return [(wire.answered_at[press] - at) * 1000 for press, at in sent_at.items()]


def _until(found, patience_s: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + patience_s
    while not found():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience_s:.0f} s in vain")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
