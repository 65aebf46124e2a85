"""100 times kill -9 of the Telegram bot in a storm of ≥ 20,000 updates: confirmed updates lost, and doubled."""

import argparse
import tempfile
from pathlib import Path

from benchmarks._telegram_storm import run_storm
from benchmarks.report import Row, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--updates", type=int, default=20_500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-telegram-kills-") as folder:
        found = run_storm(Path(folder).resolve(), arguments.kills, arguments.updates, arguments.seed)
    report(
        "telegram_kills",
        [
            Row("kill -9 of the Telegram bot", found.kills, unit="kills"),
            Row("confirmed updates", found.updates, unit="updates"),
            Row("votes among them", found.votes, unit="votes"),
            Row("… lost", found.votes_lost, unit="votes"),
            Row("… doubled", found.votes_doubled, unit="votes"),
            Row("messages among them", found.messages, unit="messages"),
            Row("… without a reply", found.messages_lost, unit="messages"),
            Row("… replied to twice", found.messages_doubled, unit="messages"),
        ],
        "Presses, reactions and messages of 24 people through a Telegram that never delivers a confirmed update again.",
        seed=arguments.seed,
    )
    if not found.clean:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
