"""Which candidates of a comparison are shown: those whose judgement teaches most, and by chance now and then.

Who chooses between two replies that say the same teaches nothing. So more candidates are drawn than are shown, and each
set S of as many as are shown is taken with probability

    p(S) = ε / N + (1 − ε) · [S is one of the b best] / b        N: how many such sets there are, ε > 0

The best is the set of the greatest distance. Where a reward model is at hand it is the set whose rewards lie nearest to
each other, which is the one that the model is least sure of, among the more distant half of the sets: nearest of all
are two copies of one reply.

Every set can be shown, and p(S) is kept with its comparison. So a figure over comparisons (how often a judge is right)
that is to hold for candidates taken by chance is estimated without bias by weighing each with 1 / (N · p(S)), as
Horvitz and Thompson (1952) weigh a survey.

    distance(a, b) in [0, 1] is the mean of
        length   |ln(1 + words of a) − ln(1 + words of b)| / ln 4, at most 1: one is four times as long
        end      1 when one ended by itself and the other was cut off, else 0
        words    1 − 2 Σ min(count in a, count in b) / (words of a + words of b)

It is cheap on purpose: it runs while somebody waits. On the bundled model half the variance lies between the samples of
one prompt, and most of it in length and in whether a reply is finished.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Any, Literal

from feedback_store.records import FinishReason, Message

Rule = Literal["distance", "uncertainty", "chance"]
# Chinese and Japanese write no spaces: there a sign is what a word is elsewhere.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Said:
    """What is looked at of a candidate."""

    text: str
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidates that are shown (their places among those drawn), and how they came to be."""

    members: tuple[int, ...]
    propensity: float
    """With which probability this set was taken, given the candidates."""
    sets: int
    """How many sets there were."""
    by: Rule
    distance: float
    """Mean distance of its members, in [0, 1]."""

    def as_dict(self, candidates: int) -> dict[str, Any]:
        """What is kept with the comparison, of which so many candidates were drawn."""
        return {
            "candidates": candidates,
            "sets": self.sets,
            "propensity": round(self.propensity, 9),
            "by": self.by,
            "distance": round(self.distance, 4),
        }


def distance(first: Said, second: Said) -> float:
    """How different two replies are, in [0, 1]; see the module."""
    mine, theirs = _words(first.text), _words(second.text)
    count, other = mine.total(), theirs.total()
    length = min(1.0, abs(math.log(1 + count) - math.log(1 + other)) / math.log(4))
    end = float((first.finish_reason == "stop") != (second.finish_reason == "stop"))
    shared = 2 * (mine & theirs).total() / (count + other) if count + other else 1.0
    return (length + end + 1 - shared) / 3


def spread(candidates: Sequence[Said]) -> float:
    """Mean distance over the pairs of two or more replies."""
    pairs = list(combinations(candidates, 2))
    return sum(distance(first, second) for first, second in pairs) / len(pairs)


def least_distance(candidates: Sequence[Said]) -> float:
    """The distance of the two replies that are most alike."""
    return min(distance(first, second) for first, second in combinations(candidates, 2))


def most_varied(candidates: Sequence[Said], count: int) -> tuple[int, ...]:
    """Return the places of `count` candidates of which even the two most alike differ as much as they can."""
    apart = {
        (one, other): distance(candidates[one], candidates[other])
        for one, other in combinations(range(len(candidates)), 2)
    }
    sets = combinations(range(len(candidates)), count)
    return max(sets, key=lambda places: min(apart[pair] for pair in combinations(places, 2)))


def chances(
    candidates: Sequence[Said], shown: int, explore: float, rewards: Sequence[float] | None = None
) -> dict[tuple[int, ...], float]:
    """Return p(S) for every set of `shown` places. explore: ε. rewards: of each candidate, by a trusted model."""
    sets = list(combinations(range(len(candidates)), shown))
    best = _best(candidates, sets, rewards)
    by_chance = explore / len(sets)
    return {one: by_chance + ((1 - explore) / len(best) if one in best else 0.0) for one in sets}


def choose(
    candidates: Sequence[Said], shown: int, explore: float, dice: Random, rewards: Sequence[float] | None = None
) -> Choice:
    """Take a set of `shown` candidates by the chances above. Its members are in the order drawn, not yet in that of
    the page: who calls shuffles them."""
    sets = list(combinations(range(len(candidates)), shown))
    best = _best(candidates, sets, rewards)
    rule: Rule = "distance" if rewards is None else "uncertainty"
    if dice.random() < explore:
        rule = "chance"
    members = dice.choice(sets if rule == "chance" else sorted(best))
    propensity = explore / len(sets) + ((1 - explore) / len(best) if members in best else 0.0)
    return Choice(members, propensity, len(sets), rule, spread([candidates[place] for place in members]))


def with_hint(messages: Sequence[Message], hint: str) -> tuple[Message, ...]:
    """Put a hint about style behind the system prompt of a conversation, or before one that has none."""
    if messages and messages[0]["role"] == "system":
        return ({"role": "system", "content": f"{messages[0]['content']}\n\n{hint}"}, *messages[1:])
    return ({"role": "system", "content": hint}, *messages)


def _best(
    candidates: Sequence[Said], sets: Sequence[tuple[int, ...]], rewards: Sequence[float] | None
) -> frozenset[tuple[int, ...]]:
    """The sets that teach most: one, or several that are equally good."""
    apart = {one: spread([candidates[place] for place in one]) for one in sets}
    if rewards is None:
        most = max(apart.values())
        return frozenset(one for one in sets if apart[one] >= most - _EQUAL)
    median = sorted(apart.values(), reverse=True)[(len(sets) - 1) // 2]
    width = {
        one: max(rewards[place] for place in one) - min(rewards[place] for place in one)
        for one in sets
        if apart[one] >= median - _EQUAL
    }
    least = min(width.values())
    return frozenset(one for one in width if width[one] <= least + _EQUAL)


def _words(text: str) -> Counter[str]:
    return Counter(word.casefold() for word in _WORD.findall(text))
