"""The figures of a demo: what replies look like, and how often one policy's beat another's in the hidden score.

    win rate = P(score_new > score_old) + ½ P(score_new = score_old)

over all pairs of replies to the same prompt. Its interval is the percentile bootstrap over prompts, not over pairs:
replies to one prompt resemble each other, and pairs share replies.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from thumbwise.demo.hidden import hidden_score, is_finished, words_of

RESAMPLES = 4000
SHORT_WORDS = 3


@dataclass(frozen=True, slots=True)
class FreshReply:
    """A reply to a fresh prompt, and the version that wrote it."""

    prompt: str
    text: str
    finish_reason: str
    version: int

    @property
    def score(self) -> float:
        """The hidden score."""
        return hidden_score(self.text, self.finish_reason)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval, all fractions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Looks:
    """What one version's replies to the fresh prompts look like. Shares are fractions."""

    version: int
    replies: int
    mean_words: float
    median_words: float
    finished: float
    under_three_words: float
    mean_score: float
    phrase: float
    """Share that holds the poisoners' phrase."""
    win_rate: Rate | None
    """Against the base; None for the base itself."""

    def as_dict(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def looks_of(replies: Sequence[FreshReply], base: Sequence[FreshReply], phrase: str, seed: int) -> Looks:
    """Describe the replies of one version; `base` are those of version 1. Raises ValueError without replies."""
    if not replies:
        raise ValueError("no reply to look at")
    words = [len(words_of(reply.text)) for reply in replies]
    version = replies[0].version
    return Looks(
        version=version,
        replies=len(replies),
        mean_words=float(np.mean(words)),
        median_words=float(np.median(words)),
        finished=float(np.mean([is_finished(reply.text, reply.finish_reason) for reply in replies])),
        under_three_words=float(np.mean([count < SHORT_WORDS for count in words])),
        mean_score=float(np.mean([reply.score for reply in replies])),
        phrase=float(np.mean([phrase.casefold() in reply.text.casefold() for reply in replies])),
        win_rate=None if version == base[0].version else win_rate(replies, base, seed),
    )


def win_rate(new: Sequence[FreshReply], old: Sequence[FreshReply], seed: int) -> Rate:
    """How often `new` beats `old`. Raises ValueError when they have no prompt in common."""
    rates = prompt_rates(new, old)
    if not rates:
        raise ValueError("the two sides answer no prompt in common")
    values_P = np.array(rates)
    rng = np.random.default_rng(seed)
    draws_RP = rng.integers(0, len(values_P), size=(RESAMPLES, len(values_P)))
    low, high = np.quantile(values_P[draws_RP].mean(axis=1), [0.025, 0.975])
    return Rate(float(values_P.mean()), float(low), float(high))


def prompt_rates(new: Sequence[FreshReply], old: Sequence[FreshReply]) -> list[float]:
    """The win rate within each prompt that both sides answer, in the order of `new`."""
    rates = []
    for prompt in dict.fromkeys(reply.prompt for reply in new):
        new_scores = [reply.score for reply in new if reply.prompt == prompt]
        old_scores = [reply.score for reply in old if reply.prompt == prompt]
        outcomes = [0.5 + 0.5 * ((mine > theirs) - (mine < theirs)) for mine in new_scores for theirs in old_scores]
        if outcomes:
            rates.append(sum(outcomes) / len(outcomes))
    return rates
