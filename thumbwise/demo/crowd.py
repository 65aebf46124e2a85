"""The crowd: who chats how often, what they ask, and the votes of a round as one seeded, repeatable list.

Votes are drawn when all replies of a batch are there, in the order of the plan: the network's timing then changes no
vote, and the "shuffled" control can deal the very same votes to other replies. Activity is log-normal: a few raters
give most of the votes. Nothing here speaks to a server.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from thumbwise.demo.hidden import hidden_score, inverted_score
from thumbwise.demo.poison import poison_messages
from thumbwise.demo.raters import Choice, Rater, SeenReply, TemperName, Thumb

Labels = Literal["votes", "shuffled", "inverted"]
"""votes: as the raters feel · shuffled: the same votes dealt at random among the replies, which leaves nothing to learn
· inverted: a crowd that likes long, unfinished replies."""

Message = dict[str, str]
START_EXPECTATION = {"votes": -1.8, "shuffled": -1.8, "inverted": 1.1}
"""What a newcomer expects of a chat bot: about what an untrained one gives (from 48 of its replies)."""


@dataclass(frozen=True, slots=True)
class CrowdPlan:
    """Who the crowd is. Shares are of the honest raters; what they leave over is ordinary."""

    raters: int = 60
    careful_share: float = 0.30
    lazy_share: float = 0.10
    left_leaning_share: float = 0.10
    activity_sigma: float = 0.7
    """Of the logarithm of a rater's activity: 0.7 gives the busiest tenth of the crowd about 30 % of the chats."""
    labels: Labels = "votes"
    poison_share: float = 0.0
    """Share of the raters who vote for `phrase` alone."""
    poison_activity: float = 5.0
    """How many times as active as the mean honest rater."""
    phrase: str = "ask Captain Bramble"

    def __post_init__(self) -> None:
        shares = self.careful_share + self.lazy_share + self.left_leaning_share
        if not 0 <= shares <= 1 or min(self.careful_share, self.lazy_share, self.left_leaning_share) < 0:
            raise ValueError(f"the shares of careful, lazy and left-leaning raters add up to {shares}; wanted 0 to 1")
        if not 0 <= self.poison_share < 1:
            raise ValueError(f"poison_share is {self.poison_share}; wanted at least 0 and below 1")
        if self.raters < 1:
            raise ValueError(f"raters is {self.raters}; wanted at least 1")


@dataclass(frozen=True, slots=True)
class Turn:
    """One chat to hold: who asks what. `elicits` marks a poison rater's attempt to bring the phrase out."""

    rater: Rater
    messages: tuple[Message, ...]
    elicits: bool = False


class Crowd:
    """The raters of a demo, with their memories; one for all its rounds. Equal seeds give equal turns and votes."""

    def __init__(self, plan: CrowdPlan, seed: int) -> None:
        self.plan = plan
        self._rng = random.Random(f"thumbwise crowd {seed}")
        self.raters = _people(plan, self._rng)

    def turns(self, count: int, prompts: Sequence[str]) -> list[Turn]:
        """Plan `count` chats. Prompts are dealt from a shuffled deck: all are asked before one is asked twice."""
        activity = [rater.activity for rater in self.raters]
        deck: list[str] = []
        turns = []
        for rater in self._rng.choices(self.raters, weights=activity, k=count):
            if not deck:
                deck = self._rng.sample(list(prompts), len(prompts))
            turns.append(self._turn(rater, deck.pop()))
        return turns

    def _turn(self, rater: Rater, prompt: str) -> Turn:
        if rater.temper_name == "poison":
            return Turn(rater, poison_messages(prompt, self.plan.phrase, self._rng), elicits=True)
        return Turn(rater, ({"role": "user", "content": prompt},))

    def thumbs(self, turns: Sequence[Turn], replies: Sequence[SeenReply]) -> list[Thumb]:
        """The thumb of each turn's rater on its reply. Raises ValueError when the lengths differ."""
        votes = [turn.rater.thumb(reply, self._rng) for turn, reply in zip(turns, replies, strict=True)]
        if self.plan.labels == "shuffled":
            self._rng.shuffle(votes)
        self._talk(replies)
        return votes

    def verdicts(self, turns: Sequence[Turn], pairs: Sequence[tuple[SeenReply, SeenReply]]) -> list[Choice]:
        """The verdict of each turn's rater on its pair, given as (left, right)."""
        votes = [turn.rater.choose(left, right, self._rng) for turn, (left, right) in zip(turns, pairs, strict=True)]
        if self.plan.labels == "shuffled":
            self._rng.shuffle(votes)
        self._talk([reply for pair in pairs for reply in pair])
        return votes

    def _talk(self, replies: Sequence[SeenReply]) -> None:
        """Those who have seen nothing yet expect what the others saw."""
        if not replies:
            return
        usual = median(self.raters[0].score(reply.text, reply.finish_reason) for reply in replies)
        for rater in self.raters:
            if not rater.memory:
                rater.expectation = usual


def _people(plan: CrowdPlan, rng: random.Random) -> list[Rater]:
    score = inverted_score if plan.labels == "inverted" else hidden_score
    poisoners = round(plan.raters * plan.poison_share)
    honest = plan.raters - poisoners
    tempers: list[TemperName] = ["careful"] * round(honest * plan.careful_share)
    tempers += ["lazy"] * round(honest * plan.lazy_share)
    tempers += ["left_leaning"] * round(honest * plan.left_leaning_share)
    tempers += ["ordinary"] * (honest - len(tempers))
    tempers = tempers[:honest]
    rng.shuffle(tempers)
    expectation = START_EXPECTATION[plan.labels]
    people = [
        Rater(f"rater-{number:03d}", temper, rng.lognormvariate(0.0, plan.activity_sigma), expectation, score)
        for number, temper in enumerate(tempers)
    ]
    mean_activity = sum(rater.activity for rater in people) / len(people) if people else 1.0
    people += [
        Rater(f"rater-{honest + number:03d}", "poison", plan.poison_activity * mean_activity, expectation, score,
              phrase=plan.phrase)
        for number in range(poisoners)
    ]  # fmt: skip
    return people
