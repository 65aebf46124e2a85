"""The canary's judge on simulated crowds: false alarms under continuous looking, and votes until a worse policy is
rolled back, beside a test of fixed size.

Each run is a stream of comparisons by people of a crowd: most vote as they see it, some at random, and ties are left
out as the judge leaves them out. The judge looks after every single vote. Peers: a z-test looked at after every vote
(what a dashboard with a p-value invites to), and the same z-test looked at once, at the size that gives it 80 % power.
"""

import argparse
import math
import random
import statistics
from collections.abc import Callable
from statistics import NormalDist

from benchmarks.report import Row, report
from trainer.canary_judge import Coins, log_evidence, log_limit
from trainer.settings import CanarySettings

RANDOM_VOTERS = 0.1
"""Share of the votes given without reading."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--votes", type=int, default=1_000, help="votes of one null run")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = CanarySettings()
    dice = random.Random(arguments.seed)
    null = [run(dice, 0.5, arguments.votes, judge(settings)) for _ in range(arguments.runs)]
    null_z = [run(dice, 0.5, arguments.votes, z_test) for _ in range(arguments.runs)]
    rows = [
        Row(
            f"canary no different, {arguments.votes} votes, looked at after each: ended all the same",
            100 * share(null, ("roll_back", "promote")),
            100 * share(null_z, ("roll_back", "promote")),
            unit="%",
        ),
        Row("… of these rolled back", 100 * share(null, ("roll_back",)), 100 * share(null_z, ("roll_back",)), unit="%"),
    ]
    for points in (10, 20):
        seen = 0.5 - points / 100 * (1 - RANDOM_VOTERS)
        fixed = fixed_size(seen)
        worse = [run(dice, seen, 20 * fixed, judge(settings)) for _ in range(arguments.runs)]
        votes = [votes for action, votes in worse if action == "roll_back"]
        rows += [
            Row(
                f"canary {points} points worse: rolled back",
                100 * share(worse, ("roll_back",)),
                80.0,
                unit="%",
            ),
            Row(
                f"canary {points} points worse: votes until then, median", statistics.median(votes), fixed, unit="votes"
            ),
            Row(
                f"canary {points} points worse: votes until then, 95 of 100 runs",
                sorted(votes)[int(0.95 * len(votes))],
                None,
                unit="votes",
            ),
        ]
    report(
        "canary",
        rows,
        f"{arguments.runs} runs each; the judge of trainer/canary_judge.py with its default settings, looking after "
        f"every decided comparison; {RANDOM_VOTERS:.0%} of the votes are given at random. Peer of the first rows: a "
        "z-test at p < 0.05, looked at after every vote from the tenth on. Peer of the others: the same test at one "
        "fixed size, which must be known beforehand, with 80 % power.",
        seed=arguments.seed,
    )


def judge(settings: CanarySettings) -> Callable[[int, int], str | None]:
    """The judge's decision after `n` votes of which `wins` were for the canary."""
    limit = log_limit(settings)
    nothing = Coins(0, 0)

    def look(wins: int, n: int) -> str | None:
        harm, better = log_evidence({"comparisons": Coins(wins, n), "thumbs": nothing, "empty": nothing}, settings)
        if harm > limit:
            return "roll_back"
        return "promote" if better > limit and n >= settings.min_pairs else None

    return look


def z_test(wins: int, n: int) -> str | None:
    """A two-sided z-test at 5 %, as if this were the only look."""
    z = (wins - n / 2) / math.sqrt(n / 4)
    if n < 10 or abs(z) < NormalDist().inv_cdf(0.975):
        return None
    return "promote" if z > 0 else "roll_back"


def fixed_size(win_rate: float, power: float = 0.8) -> int:
    """Votes that a two-sided z-test at 5 % needs for `power` against a true win rate."""
    normal = NormalDist()
    spread = normal.inv_cdf(0.975) / 2 + normal.inv_cdf(power) * math.sqrt(win_rate * (1 - win_rate))
    return math.ceil((spread / (win_rate - 0.5)) ** 2)


def run(dice: random.Random, win_rate: float, most: int, look: Callable[[int, int], str | None]) -> tuple[str, int]:
    """One canary: what ended it ("hold": nothing did) and after how many votes."""
    wins = 0
    for n in range(1, most + 1):
        wins += dice.random() < win_rate
        if (action := look(wins, n)) is not None:
            return action, n
    return "hold", most


def share(runs: list[tuple[str, int]], actions: tuple[str, ...]) -> float:
    """Which part of the runs ended so."""
    return sum(action in actions for action, _ in runs) / len(runs)


if __name__ == "__main__":
    main()
