"""Signs that alignment is the wrong tool: it moves a policy among the replies that it can give, towards those that
people like better. Where people do not like the same, or where no reply that it can give is good, there is nothing to
move towards.

    people cannot agree       where two judged the same, they agree so seldom that even the upper end of the interval
                              lies below what DPO asks (`rounds.min_pair_agreement` = a); or α lies below 2a − 1, which
                              is the same when both answers are as frequent
    the model does not know   over a half (`rounds.max_not_knowing`) of the reasons against replies say "wrong", or of
                              the verdicts "both bad"; by the lower end of the interval, on 30 of them at least

They are said, with what to do instead, and refuse no round by themselves: the thresholds of readiness do.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from feedback_store.agreement import Agreement, agreement
from feedback_store.records import BOTH_BAD, NewFeedback
from feedback_store.statistics import wilson
from trainer.feedback_rows import Vote
from trainer.pair_agreement import PairAgreement, Verdict, by_comparison
from trainer.settings import RoundSettings

LEAST = 30
"""Reasons, verdicts or units below which nothing is said."""
MOST_UNITS = 2_000
"""The newest replies and comparisons, judged twice, that α is computed from."""
REASONS_AGAINST = frozenset(
    {"wrong", "missed_the_point", "too_long", "hard_to_read", "harmful", "unclear", "off_topic", "unsafe"}
)
"""What can be tapped against a reply, in the web chat and in the bots."""
WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Doubt:
    """One sign, for people: what was found, and what would help instead."""

    name: Literal["people cannot agree", "the model does not know"]
    found: str
    value: float
    interval: tuple[float, float]
    n: int
    advice: str


@dataclass(frozen=True, slots=True)
class Signals:
    """How far raters agree by Krippendorff's α, and what speaks against alignment."""

    alpha: Agreement
    doubts: tuple[Doubt, ...] = ()


@dataclass(slots=True)
class Heard:
    """What acts say beside which reply is better, counted as they are read."""

    acts: int = 0
    reasons_against: int = 0
    """Thumbs down whose reason is one of those that can be tapped."""
    wrong: int = 0
    """Of these, the ones that say "wrong"."""
    verdicts: int = 0
    both_bad: int = 0

    def hear(self, act: NewFeedback) -> None:
        """Count one act."""
        self.acts += 1
        if act.kind == "thumb" and act.thumb == "down" and act.reason:
            codes = codes_of(act.reason)
            self.reasons_against += bool(codes & REASONS_AGAINST)
            self.wrong += WRONG in codes
        if act.kind == "verdict" and act.verdict is not None:
            self.verdicts += 1
            self.both_bad += act.verdict == BOTH_BAD


def signals_of(
    heard: Heard, votes: Sequence[Vote], pairs: Iterable[Verdict], agreed: PairAgreement, rounds: RoundSettings
) -> Signals:
    """Read what was heard, what each rater thinks of each reply, and the pairs that verdicts and rankings order."""
    alpha = alpha_of(votes, pairs)
    wrong = _not_knowing(heard.wrong, heard.reasons_against, "thumbs down with a reason say “wrong”", rounds)
    bad = _not_knowing(heard.both_bad, heard.verdicts, "verdicts say that both replies are bad", rounds)
    found = (_cannot_agree(agreed, alpha, rounds), wrong, bad)
    return Signals(alpha, tuple(doubt for doubt in found if doubt is not None))


def alpha_of(votes: Sequence[Vote], pairs: Iterable[Verdict]) -> Agreement:
    """α over replies with several thumbs and pairs of replies with several verdicts.

    A pair has no first reply, so each counts in both directions (see `annotation_progress.agreement_of`), as one
    cluster.
    """
    of_reply = Counter(vote.reply_id for vote in votes if vote.source == "thumb")
    thumbs: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        if vote.source == "thumb" and of_reply[vote.reply_id] > 1:
            thumbs[vote.reply_id].append(float(vote.up))
    units: list[tuple[str, list[float]]] = list(thumbs.items())
    for key, sides in by_comparison(pairs).items():
        if len(sides) > 1:
            said = [float(side) for side in sides.values()]
            units += [(f"pair {key}", said), (f"pair {key}", [1 - value for value in said])]
    units = units[-MOST_UNITS:]
    return agreement([said for _, said in units], cluster=[name for name, _ in units])


def codes_of(reason: str | None) -> frozenset[str]:
    """The reasons that were tapped rather than written: the words before the first colon, as they are stored."""
    head = (reason or "").split(":")[0]
    return frozenset(word.strip().replace("-", "_").lower() for word in re.split(r"[,;]", head)) - {""}


def _cannot_agree(agreed: PairAgreement, alpha: Agreement, rounds: RoundSettings) -> Doubt | None:
    advice = (
        "what is better is not settled between these people: write down what a good reply is, talk about the cases "
        "they differ on (Annotate shows them), or align for one group"
    )
    least = rounds.min_pair_agreement
    if not agreed.assumed and agreed.interval is not None and agreed.interval[1] < least:
        found = (
            f"two raters agree on {agreed.value:.0%} of the comparisons [{agreed.interval[0]:.0%}, "
            f"{agreed.interval[1]:.0%}], and by chance on 50 %"
        )
        return Doubt("people cannot agree", found, agreed.value, agreed.interval, agreed.comparisons, advice)
    if alpha.alpha is None or alpha.low is None or alpha.high is None or alpha.units < LEAST:
        return None
    if alpha.high < 2 * least - 1:
        found = f"α is {alpha.alpha:.2f} [{alpha.low:.2f}, {alpha.high:.2f}] where several people rated the same"
        return Doubt("people cannot agree", found, alpha.alpha, (alpha.low, alpha.high), alpha.units, advice)
    return None


def _not_knowing(count: int, n: int, what: str, rounds: RoundSettings) -> Doubt | None:
    interval = wilson(count, n)
    if n < LEAST or interval[0] <= rounds.max_not_knowing:
        return None
    advice = (
        "choosing among replies that are all wrong teaches no facts: give the model what it lacks (a larger base "
        "model, documents in the prompt), or write corrections and train on them (SFT)"
    )
    return Doubt("the model does not know", f"{count} of {n} {what}", count / n, interval, n, advice)
