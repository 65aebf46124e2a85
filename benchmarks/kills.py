"""100 times kill -9 of the server during a click storm: acknowledged votes lost, acknowledged votes doubled."""

import argparse
import tempfile
from pathlib import Path

from benchmarks._kill_storm import CLICKERS, run_storm
from benchmarks.report import Row, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-kills-") as folder:
        found = run_storm(Path(folder).resolve(), arguments.kills, arguments.seed)
    votes = found.votes
    report(
        "kills",
        [
            Row("kill -9 of the server", found.kills, unit="kills"),
            Row("acknowledged votes", votes.acknowledged, unit="votes"),
            Row("… lost", votes.lost, unit="votes"),
            Row("… doubled", votes.doubled, unit="votes"),
            Row("sent again because no answer came", found.repeats, unit="votes"),
            Row("… of which the killed server had stored them", found.already_stored, unit="votes"),
        ],
        f"{CLICKERS} clients vote without pause over HTTP, and repeat an unanswered vote with its Idempotency-Key.",
        seed=arguments.seed,
    )
    if not votes.clean:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
