"""How soon a press is answered while 50 chats wait for slow replies.

From the moment Telegram hands the press out to the bot's answerCallbackQuery, the vote stored on the server in between.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks._server_process import running_server
from benchmarks._telegram_storm import BotProcess, _first_replies
from benchmarks.report import Row, report
from tests.telegram.wire import Person, Wire, wire_at_port

CHATS, PRESSES, PAUSE_S = 50, 300, 0.03
WORDS, STEP_S = 200, 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presses", type=int, default=PRESSES)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-telegram-clicks-") as folder:
        waits_ms, generating = measure(Path(folder).resolve(), arguments.presses, arguments.seed)
    waits_ms.sort()
    report(
        "telegram_clicks",
        [
            Row("chats that wait for a reply", generating, unit="chats"),
            Row("half of the presses answered within", statistics.median(waits_ms), unit="ms"),
            Row("95 % of the presses answered within", waits_ms[int(len(waits_ms) * 0.95) - 1], unit="ms"),
            Row("the slowest", waits_ms[-1], unit="ms"),
        ],
        f"{arguments.presses} presses, one every {PAUSE_S * 1000:.0f} ms, each stored before it is answered; bot, "
        "server and Telegram's stand-in on the same machine.",
        seed=arguments.seed,
    )


def measure(folder: Path, presses: int, seed: int) -> tuple[list[float], int]:
    """Return the wait of each press in ms, and how many replies were under way at the end."""
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
        sent_at: dict[str, float] = {}
        for _ in range(presses):
            person = dice.choice(raters)
            reply = replies[person.user_id]
            data_of_key = reply["data"][dice.choice(("up", "down"))]  # type: ignore[index]
            sent_at[person.sends_data(reply, data_of_key)] = time.monotonic()
            time.sleep(PAUSE_S)
        _until(lambda: all(press in wire.answered_at for press in sent_at))
        generating = CHATS - (wire.counts["sendmessage"] - before)
        bot.kill()
    return [(wire.answered_at[press] - at) * 1000 for press, at in sent_at.items()], generating


def _until(found, patience_s: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + patience_s
    while not found():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience_s:.0f} s in vain")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
