"""What the methods learn from, beside one another: replies of the base model, and one crowd's judgements of them.

Every prompt of the demo has four replies of the base model, drawn with the seed. The crowd judges them as a bot would
have it judge them:

    votes        one reply of a prompt each, up or down                                        (KTO)
    pairs        two of the four, the two of most different length and the two others; each pair is shown to three
                 raters, sides at random                                                       (DPO; the reward model)
    corrections  a rater's better answer: the one of the four that this rater, looking with their usual error, finds
                 best; as many replies that raters liked stand beside them                     (SFT)

"shuffled" deals the very same judgements at random among the replies, "inverted" asks a crowd that likes long replies
which do not end. Rows of held-out raters and of held-out prompts are learnt by no method and judged with.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from thumbwise.demo.crowd import Crowd, CrowdPlan, Labels, Turn
from thumbwise.demo.hidden import words_of
from thumbwise.demo.prompts import train_prompts
from thumbwise.demo.raters import SeenReply
from trainer.drawing import Drawn
from trainer.job import ExampleRow, PairRow, PromptRow, ReplyText, Row, VoteRow
from trainer.selection import held_out

REPLIES = 4
"""Of the base model to each prompt."""
LOOKS = 3
"""Raters who judge each pair."""
HELD_OUT = 0.18


@dataclass(frozen=True, slots=True)
class MethodData:
    """One method's rows, as a round would select them."""

    train: list[Row]
    held_out: list[Row]
    gate_prompts: list[PromptRow]
    rollout_prompts: list[PromptRow]


class Judged:
    """The crowd of one seed and one kind of labels, and the replies it judges."""

    def __init__(self, drawn: Sequence[Drawn], prompt_tokens: Sequence[int], labels: Labels, seed: int) -> None:
        """drawn: REPLIES of each prompt of `train_prompts()`, prompt after prompt. prompt_tokens: of each prompt, as
        rendered; with them a reply's own log-probability serves as its reference."""
        self._drawn, self._prompt_tokens, self._labels, self._seed = drawn, prompt_tokens, labels, seed
        self._dice = random.Random(f"methods {labels} {seed}")
        self._crowd = Crowd(CrowdPlan(labels=labels), seed)
        self._prompts = train_prompts()
        self._held_prompts = held_out(self._prompts, HELD_OUT, seed, "prompt")
        self._held_raters = held_out([rater.name for rater in self._crowd.raters], HELD_OUT, seed, "rater")
        self._numbers = {rater.name: number for number, rater in enumerate(self._crowd.raters)}

    def votes(self, count: int) -> MethodData:
        """`count` thumbs, as evenly over the prompts as they go, no reply twice."""
        turns = self._crowd.turns(min(count, len(self._drawn)), self._prompts)
        seen: dict[str, int] = {}
        places = []
        for turn in turns:
            prompt = turn.messages[-1]["content"]
            turned = seen.get(prompt, 0)
            places.append(REPLIES * self._prompts.index(prompt) + turned % REPLIES)
            seen[prompt] = turned + 1
        thumbs = self._crowd.thumbs(turns, [self._seen(place) for place in places])
        rows: list[Row] = [
            VoteRow(number, self._numbers[turn.rater.name], turn.messages, self._reply(place), thumb == "up")
            for number, (turn, place, thumb) in enumerate(zip(turns, places, thumbs, strict=True))
        ]
        return self._split(rows, turns)

    def pairs(self, looks: int = LOOKS, widest_only: bool = False) -> MethodData:
        """Decided comparisons: each prompt's widest pair and the two others, shown to `looks` raters."""
        turns: list[Turn] = []
        sides: list[tuple[int, int]] = []
        for _ in range(looks):
            for turn in self._crowd.turns(len(self._prompts), self._prompts):
                pairs = self._pairs_of(self._prompts.index(turn.messages[-1]["content"]))
                for pair in pairs[:1] if widest_only else pairs:
                    turns.append(turn)
                    sides.append(pair if self._dice.random() < 0.5 else (pair[1], pair[0]))
        shown = [(self._seen(left), self._seen(right)) for left, right in sides]
        verdicts = self._crowd.verdicts(turns, shown)
        rows: list[Row] = []
        decided: list[Turn] = []
        for number, (turn, (left, right), verdict) in enumerate(zip(turns, sides, verdicts, strict=True)):
            if verdict in ("left", "right"):
                best, worst = (left, right) if verdict == "left" else (right, left)
                rater = self._numbers[turn.rater.name]
                rows.append(PairRow(number, rater, turn.messages, self._reply(best), self._reply(worst)))
                decided.append(turn)
        return self._split(rows, decided)

    def corrections(self, count: int) -> MethodData:
        """`count` corrections on as many prompts, and as many liked replies on the others."""
        turns = self._crowd.turns(len(self._prompts), self._prompts)
        rows: list[Row] = []
        asked: list[Turn] = []
        taught = 0
        for number, turn in enumerate(turns):
            prompt, rater = turn.messages[-1]["content"], self._numbers[turn.rater.name]
            first = REPLIES * self._prompts.index(prompt)
            places = list(range(first, first + REPLIES))
            looks = [turn.rater.look(self._seen(place), self._dice) for place in places]
            if self._labels == "shuffled":
                self._dice.shuffle(looks)
            best = places[looks.index(max(looks))]
            held = prompt in self._held_prompts or turn.rater.name in self._held_raters
            if held or taught >= count:
                if max(looks) > turn.rater.bar:
                    rows.append(ExampleRow(number, rater, turn.messages, self._reply(best), "replay"))
                    asked.append(turn)
            else:
                taught += 1
                rows.append(ExampleRow(number, rater, turn.messages, self._reply(best, version=0), "correction"))
                asked.append(turn)
        found = self._split(rows, asked)
        replay = [row for row in found.train if isinstance(row, ExampleRow) and row.source == "replay"][:taught]
        taught_rows = [row for row in found.train if isinstance(row, ExampleRow) and row.source == "correction"]
        votes = (
            Judged(self._drawn, self._prompt_tokens, self._labels, self._seed).votes(2 * len(self._prompts)).held_out
        )
        return MethodData([*taught_rows, *replay], votes, found.gate_prompts, found.rollout_prompts)

    def _pairs_of(self, prompt: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """A prompt's shortest and longest reply, and the two between."""
        first = REPLIES * prompt
        order = sorted(range(first, first + REPLIES), key=lambda place: len(words_of(self._drawn[place].text)))
        return (order[0], order[-1]), (order[1], order[2])

    def _split(self, rows: Sequence[Row], turns: Sequence[Turn]) -> MethodData:
        held = [
            turn.rater.name in self._held_raters or turn.messages[-1]["content"] in self._held_prompts for turn in turns
        ]
        kept = [prompt for prompt in self._prompts if prompt not in self._held_prompts]
        return MethodData(
            [row for row, apart in zip(rows, held, strict=True) if not apart],
            [row for row, apart in zip(rows, held, strict=True) if apart],
            [PromptRow(({"role": "user", "content": prompt},)) for prompt in sorted(self._held_prompts)],
            [PromptRow(({"role": "user", "content": prompt},)) for prompt in kept],
        )

    def _seen(self, place: int) -> SeenReply:
        return SeenReply(self._drawn[place].text, self._drawn[place].finish_reason)

    def _reply(self, place: int, version: int = 1) -> ReplyText:
        one = self._drawn[place]
        logprob = one.logprob_nats if version else None
        asked = self._prompt_tokens[place // REPLIES]
        return ReplyText(f"r{place}", one.text, one.finish_reason, version, asked, len(one.token_ids), logprob)
