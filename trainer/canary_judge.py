"""Ends a canary when the evidence says so: rolled back when it does harm, promoted when people prefer it, else held.

Two questions, each an e-value that may be looked at after every vote (evidence_values.py):

    harm     is the canary worse?  0.8 · e(comparisons lost) + 0.15 · e(thumbs) + 0.05 · e(empty replies)
    better   do people prefer it?  e(comparisons won), and enough comparisons and raters besides

Comparisons are paired (one rater, one prompt, both versions, sides dealt at random), so that under "no difference" each
is a fair coin whoever votes; ties and both-bad are left out of the coin, and reported. Thumbs and empty replies are of
different people on either side: the i-th of one side is laid beside the i-th of the other, and pairs that differ are
coins again. Thumbs count once for each rater and side, empty replies once for each conversation, because a person's
votes are not independent of one another.
"""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from feedback_store import versions
from feedback_store.canary_evidence import CanaryEvidence, Look, PairVote, canary_evidence
from feedback_store.connection import Connection
from feedback_store.errors import Conflict
from serving.engine import AdapterRefused
from trainer.context import TrainerContext
from trainer.evidence_values import confidence_sequence, log_e, mean_log_e
from trainer.failpoints import reach
from trainer.looking import Looking
from trainer.settings import CanarySettings

logger = logging.getLogger(__name__)

Action = Literal["promote", "roll_back", "hold"]
ACTOR = "canary"
_HARM_WEIGHTS = {"comparisons": 0.8, "thumbs": 0.15, "empty": 0.05}
"""Comparisons say most for their number; the rest is for canaries that nobody compares. A weight costs −ln w of
evidence: 0.2 for comparisons, a vote or two."""


@dataclass(frozen=True, slots=True)
class Coins:
    """`wins` of `n` coins that would be fair if the two versions were alike."""

    wins: int
    n: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a canary, why in words, and the figures behind it (JSON)."""

    action: Action
    reason: str
    figures: dict[str, Any]


def coins_of(looks: Sequence[Look]) -> Coins:
    """Lay the i-th look at the canary beside the i-th at the live version; pairs that differ are coins."""
    sides = [[look.good for look in looks if look.of_canary is of_canary] for of_canary in (True, False)]
    differing = [canary for canary, live in zip(*sides, strict=False) if canary != live]
    return Coins(sum(differing), len(differing))


def decided_pairs(pairs: Sequence[PairVote], most_per_rater: int) -> tuple[Coins, int]:
    """Return the comparisons that say which is better, at most so many of a rater, and from how many raters."""
    used: Counter[str] = Counter()
    wins = 0
    for pair in pairs:
        if pair.canary_won is not None and used[pair.rater_id] < most_per_rater:
            used[pair.rater_id] += 1
            wins += pair.canary_won
    return Coins(wins, used.total()), len(used)


def log_limit(settings: CanarySettings) -> float:
    """The log e-value at which either question is answered. Twice the threshold: a canary that is no different can be
    ended wrongly in two ways, and both together must stay below 1 / threshold (it is the two-sided e-value's bound)."""
    return math.log(2 * settings.threshold)


def log_evidence(coins: Mapping[str, Coins], settings: CanarySettings) -> tuple[float, float]:
    """Return the log e-values of harm and of being better; `coins` by the names of `_HARM_WEIGHTS`."""
    harm = mean_log_e((weight, _log_e(coins[name], settings, "below")) for name, weight in _HARM_WEIGHTS.items())
    return harm, _log_e(coins["comparisons"], settings, "above")


def decide(evidence: CanaryEvidence, settings: CanarySettings) -> Decision:
    """Weigh the evidence."""
    pairs, raters = decided_pairs(evidence.pairs, settings.max_votes_per_rater)
    coins = {
        "comparisons": pairs,
        "thumbs": coins_of(evidence.thumbs),
        "empty": coins_of(evidence.conversations),
    }
    harm, better = log_evidence(coins, settings)
    low, high = confidence_sequence(pairs.wins, pairs.n, settings.threshold, settings.prior, settings.prior)
    undecided = sum(pair.canary_won is None for pair in evidence.pairs)
    figures = {
        "canary": evidence.canary.version.version,
        "live": evidence.live.version,
        "since": evidence.since.isoformat(),
        "comparisons": {"won": pairs.wins, "decided": pairs.n, "undecided": undecided, "raters": raters},
        "win_rate": pairs.wins / pairs.n if pairs.n else None,
        "win_rate_interval": [low, high],
        "thumbs": _as_dict(coins["thumbs"]),
        "empty": _as_dict(coins["empty"]),
        "e_harm": _finite(harm),
        "e_better": _finite(better),
        "e_needed": math.exp(log_limit(settings)),
        "needs": {"comparisons": settings.min_pairs, "raters": settings.min_raters},
    }
    said = f"won {pairs.wins} of {pairs.n} decided comparisons ({low:.0%} to {high:.0%}) by {raters} raters"
    limit = log_limit(settings)
    if harm > limit:
        worst = max(coins, key=lambda name: _HARM_WEIGHTS[name] * math.exp(_log_e(coins[name], settings, "below")))
        seen = said if worst == "comparisons" else f"{_WHAT[worst]} {coins[worst].wins} of {coins[worst].n} times"
        return Decision("roll_back", f"it does harm: {seen} (evidence {_shown(harm)}, wanted below "
                        f"{math.exp(limit):g})", figures)  # fmt: skip
    if better > limit and pairs.n >= settings.min_pairs and raters >= settings.min_raters:
        return Decision("promote", f"people prefer it: {said} (evidence {_shown(better)} of {math.exp(limit):g})",
                        figures)  # fmt: skip
    return Decision("hold", f"{said}: {_what_lacks(better > limit, pairs, raters, settings)}", figures)


_WHAT = {
    "thumbs": "thumbs were up where live's were down",
    "empty": "a conversation had no empty reply where live's had one",
}


def _what_lacks(clear: bool, pairs: Coins, raters: int, settings: CanarySettings) -> str:
    if not clear:
        return "not enough to tell the two apart"
    lacks = []
    if pairs.n < settings.min_pairs:
        lacks.append(f"{settings.min_pairs - pairs.n} more comparisons")
    if raters < settings.min_raters:
        lacks.append(f"{settings.min_raters - raters} more raters")
    return "clear, but wanted: " + " and ".join(lacks)


def _log_e(coins: Coins, settings: CanarySettings, side: Literal["below", "above"]) -> float:
    return log_e(coins.wins, coins.n, 0.5, settings.prior, settings.prior, side)


def _as_dict(coins: Coins) -> dict[str, int]:
    return {"canary_better": coins.wins, "differing": coins.n}


def _finite(log_value: float) -> float:
    return math.exp(min(log_value, 700.0))


def _shown(log_value: float) -> str:
    return f"{math.exp(log_value):.3g}" if log_value < 16 else "over 10 million"


def canary_report(connection: Connection, settings: CanarySettings) -> dict[str, Any] | None:
    """How the present canary stands: action, reason and figures; None without a canary."""
    evidence = canary_evidence(connection)
    if evidence is None:
        return None
    found = decide(evidence, settings)
    return {"action": found.action, "reason": found.reason, **found.figures}


class CanaryJudge:
    """Looks at the evidence every `canary.look_every_s` and acts on it. Any number of them may look at once: each
    names the canary and the live version it saw, and the store lets one of them move the pointer."""

    def __init__(self, context: TrainerContext) -> None:
        self._context = context
        self._looking = Looking("canary-judge", self.look, context.canary.look_every_s)

    def start(self) -> None:
        """Begin to look, unless an admin decides."""
        if self._context.canary.decide:
            self._looking.start()

    def close(self) -> None:
        """Stop."""
        self._looking.close()

    def look(self) -> Decision | None:
        """Weigh the evidence and act on it; None without a canary, or when somebody else moved it meanwhile."""
        context = self._context
        evidence = context.store.read(canary_evidence)
        if evidence is None:
            return None
        found = decide(evidence, context.canary)
        version, live = evidence.canary.version.version, evidence.live.version
        if found.action == "hold":
            return found
        try:
            if found.action == "promote":
                context.prepare_version(version)
                context.store.write(_promote, version, live, found)
                reach("promote")
            else:
                context.store.write(
                    versions.stop_canary,
                    actor=ACTOR,
                    reason=found.reason,
                    expected_canary=version,
                    evidence=found.figures,
                )
        except (Conflict, AdapterRefused) as error:
            logger.info("canary left alone version=%d reason=%s", version, error)
            return None
        logger.info("canary ended version=%d action=%s", version, found.action)
        context.on_pointer_moved()
        return found


def _promote(connection: Connection, version: int, live: int, found: Decision) -> None:
    """Promote the version if it is the canary still: it may have been stopped since it was looked at."""
    present = versions.canary(connection)
    if present is None or present.version.version != version:
        raise Conflict(f"version {version} is the canary no more")
    versions.promote(connection, version, actor=ACTOR, reason=found.reason, expected_live=live, evidence=found.figures)
