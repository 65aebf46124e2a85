"""How far raters agree, and what that lets a reward model reach: pure arithmetic over verdicts.

Two raters who judge the same two replies agree on a share a of the verdicts that are no tie. If each gives the right
verdict with probability p, independently, a = p² + (1 − p)², so p = (1 + √(2a − 1)) / 2: the most that any model which
does not know the rater can reach on single votes (its ceiling), and 1 − p is the share of verdicts that are wrong,
which is DPO's label smoothing. Raters agree on about 70 % of pairs, so the ceiling is near 82 %.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from feedback_store.statistics import bootstrap_mean

CONSENSUS_VOTES = 3
CONSENSUS_SHARE = 0.8


Verdict = tuple[Hashable, str, str]
"""A rater, the reply they chose, and the one they did not (both by id)."""


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """`value`: the share of agreeing pairs of votes, in [0, 1], with its interval over comparisons; `comparisons`: how
    many were judged by two raters or more. `assumed`: too few were, and the value is a setting's."""

    value: float
    interval: tuple[float, float] | None
    comparisons: int
    assumed: bool = False

    @property
    def ceiling(self) -> float:
        """The most that a rater-blind model reaches on single votes; one half when raters agree by chance alone."""
        return ceiling(self.value)

    @property
    def label_noise(self) -> float:
        """The share of verdicts taken to be wrong, below one half."""
        return 1 - self.ceiling


def ceiling(agreement: float) -> float:
    """Return (1 + √(2a − 1)) / 2, or 0.5 for an agreement of one half or less."""
    return (1 + math.sqrt(max(0.0, 2 * agreement - 1))) / 2


def by_comparison(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], dict[Hashable, bool]]:
    """Return, for each two replies (in the order of their ids), every rater's vote: True for the first of them."""
    found: dict[tuple[str, str], dict[Hashable, bool]] = defaultdict(dict)
    for rater, chosen, rejected in verdicts:
        first, second = sorted((chosen, rejected))
        found[first, second][rater] = chosen == first
    return dict(found)


def measured_agreement(verdicts: Iterable[Verdict], *, at_least: int, assumed: float, seed: int = 0) -> PairAgreement:
    """Measure the agreement of raters; `assumed` where fewer than `at_least` comparisons were judged twice."""
    shares = [
        share
        for votes in by_comparison(verdicts).values()
        if (share := agreeing_share(list(votes.values()))) is not None
    ]
    if len(shares) < at_least:
        return PairAgreement(assumed, None, len(shares), assumed=True)
    value, low, high = bootstrap_mean(shares, seed=seed)
    return PairAgreement(value, (low, high), len(shares))


def agreeing_share(votes: Sequence[bool]) -> float | None:
    """Return which share of the pairs of votes agree; None for fewer than two votes."""
    n, first = len(votes), sum(votes)
    if n < 2:
        return None
    return (math.comb(first, 2) + math.comb(n - first, 2)) / math.comb(n, 2)


def consensus(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], bool]:
    """Return the comparisons on which raters are of one mind (at least 3 votes, at least 80 % one way): which of the
    two replies, in the order of their ids, is better."""
    found: dict[tuple[str, str], bool] = {}
    for key, votes in by_comparison(verdicts).items():
        share = sum(votes.values()) / len(votes)
        if len(votes) >= CONSENSUS_VOTES and max(share, 1 - share) >= CONSENSUS_SHARE:
            found[key] = share > 0.5
    return found
