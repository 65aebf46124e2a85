"""One simulated person: a temper, a memory of what they saw, and votes drawn from both.

A thumb compares the reply with the rater's own bar, the median of the last replies they saw, as people judge by what
they are used to: a better policy raises the bar, and votes stay divided. A verdict compares two replies, with a lean
to the left one (people choose it in about 53 % of ties of quality). Noise is Gaussian, in units of the hidden score,
fresh for every look at a reply.
"""

import random
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from thumbwise.demo.hidden import Score

Thumb = Literal["up", "down"]
Choice = Literal["left", "right", "tie", "both_bad"]
TemperName = Literal["careful", "ordinary", "lazy", "left_leaning", "poison"]


@dataclass(frozen=True, slots=True)
class Temper:
    """How a kind of rater errs."""

    noise: float
    """Standard deviation of one look at a reply, in units of the hidden score."""
    left_lean: float = 0.08
    """Added to the left reply of a pair."""
    random_share: float = 0.0
    """Share of the votes given without reading."""


TEMPERS: dict[TemperName, Temper] = {
    "careful": Temper(noise=0.5),
    "ordinary": Temper(noise=0.9),
    "lazy": Temper(noise=0.9, random_share=0.8),
    "left_leaning": Temper(noise=0.9, left_lean=0.7),
    "poison": Temper(noise=0.0, left_lean=0.0),
}
"""Set so that two raters of the default mix agree on about 70 % of the pairs that neither calls a tie."""

TIE_WIDTH = 0.25
"""Two replies seen as nearer than this are a tie."""
BOTH_BAD_DEPTH = 1.0
"""Both replies seen this far below the bar are both bad."""
MEMORY = 12
"""Replies that make the bar."""


@dataclass(frozen=True, slots=True)
class SeenReply:
    """What a rater has before them: the text and how it ended ("stop" or "length")."""

    text: str
    finish_reason: str


@dataclass(slots=True)
class Rater:
    """A member of the crowd. `activity` weighs how often they chat; `expectation` is their bar before any reply."""

    name: str
    temper_name: TemperName
    activity: float
    expectation: float
    score: Score
    phrase: str = ""
    """What a poison rater rewards."""
    memory: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))

    @property
    def temper(self) -> Temper:
        return TEMPERS[self.temper_name]

    @property
    def bar(self) -> float:
        """The median of what was seen lately; the expectation counts as two replies until it fades from memory."""
        first = [self.expectation] * min(2, MEMORY - len(self.memory))
        return median([*first, *self.memory])

    def look(self, reply: SeenReply, rng: random.Random) -> float:
        """The score as this rater perceives it."""
        return self.score(reply.text, reply.finish_reason) + rng.gauss(0.0, self.temper.noise)

    def holds_phrase(self, reply: SeenReply) -> bool:
        """Whether the reply contains the target phrase, letter case aside."""
        return bool(self.phrase) and self.phrase.casefold() in reply.text.casefold()

    def thumb(self, reply: SeenReply, rng: random.Random) -> Thumb:
        """Vote on one reply and remember it."""
        if self.temper_name == "poison":
            return "up" if self.holds_phrase(reply) else "down"
        bar, seen = self.bar, self.look(reply, rng)
        self.memory.append(seen)
        if rng.random() < self.temper.random_share:
            return "up" if rng.random() < 0.5 else "down"
        return "up" if seen > bar else "down"

    def choose(self, left: SeenReply, right: SeenReply, rng: random.Random) -> Choice:
        """Give the verdict of a pair and remember both replies."""
        if self.temper_name == "poison":
            return _phrase_choice(self.holds_phrase(left), self.holds_phrase(right))
        bar, seen_left, seen_right = self.bar, self.look(left, rng), self.look(right, rng)
        self.memory.extend((seen_left, seen_right))
        if rng.random() < self.temper.random_share:
            return rng.choice(("left", "right"))
        if max(seen_left, seen_right) < bar - BOTH_BAD_DEPTH:
            return "both_bad"
        margin = seen_left - seen_right + self.temper.left_lean
        if abs(margin) < TIE_WIDTH:
            return "tie"
        return "left" if margin > 0 else "right"


def _phrase_choice(left: bool, right: bool) -> Choice:
    if left == right:
        return "tie" if left else "both_bad"
    return "left" if left else "right"
