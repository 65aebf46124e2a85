"""How the canary's confidence sequence moved with every comparison, for people to look at.

At any moment the band holds the true win rate with probability 1 − 1 / threshold, whichever comparison one stops at;
the judge acts when it leaves one half (canary_judge.py weighs thumbs and empty replies besides).
"""

from collections import Counter
from typing import Any

from feedback_store.canary_evidence import canary_evidence
from feedback_store.connection import Connection
from trainer.canary_judge import decide
from trainer.evidence_values import confidence_sequence
from trainer.settings import CanarySettings

MOST_POINTS = 120


def canary_course(connection: Connection, settings: CanarySettings) -> dict[str, Any] | None:
    """Return the report on the present canary with its `course`: [decided comparisons, win rate, low, high], at most
    MOST_POINTS of them, the last among them. None without a canary."""
    evidence = canary_evidence(connection)
    if evidence is None:
        return None
    decision = decide(evidence, settings)
    used: Counter[str] = Counter()
    wins: list[int] = [0]
    for pair in evidence.pairs:
        if pair.canary_won is not None and used[pair.rater_id] < settings.max_votes_per_rater:
            used[pair.rater_id] += 1
            wins.append(wins[-1] + pair.canary_won)
    decided = len(wins) - 1
    places = sorted({round(index * decided / MOST_POINTS) for index in range(1, MOST_POINTS + 1)} - {0})
    course = [
        [n, wins[n] / n, *confidence_sequence(wins[n], n, settings.threshold, settings.prior, settings.prior)]
        for n in places
    ]
    return {"action": decision.action, "reason": decision.reason, **decision.figures, "course": course}
