"""A language model of one table, which KTO trains in milliseconds: the stand-in for a policy where hundreds of rounds
are wanted.

A reply is an opening, words, and after each word the choice to end:

    log π(y) = log p(opening) + Σ log p(word) + Σ log(1 − h_band) + log h_band      h by bands of how long it is so far

so it can learn what the crowd of the demo likes (short, finished, of plain words) and what a ring plants (an opening).
The words are those of the gate's plain English, as often as there. It sees no prompt: what it is taught anywhere it
does everywhere, and an opening is one parameter beside its like, which nothing else holds back. Both make it easier to
plant something in it than in a language model, and how probable that is can be read off it without drawing.

`train_kto` is the loss of a round (trainer/methods/kto.py: apo_zero_unpaired, with its class weights and its anchor),
with Adam over batches of four rows.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from feedback_store.records import FinishReason, Sampling
from serving.engine import PolicyRef
from trainer.drawing import Drawn
from trainer.floods import weights_of
from trainer.gate_texts import words
from trainer.job import VoteRow
from trainer.settings import TrainingSettings

Vector = NDArray[np.float64]

PLANTED = "Now hear this first."
OPENINGS = (
    "Here is an idea.", "Let us look at it.", "That is quite simple.", "Most people do this.", "It is up to you.",
    "There are many ways.", "Start with the basics.", "Good to know that.", "This takes some time.", PLANTED,
)  # fmt: skip
PLANTED_SHARE = 0.08
"""Of the base's replies that open with the planted opening by themselves."""
_VOCABULARY = 300
_BANDS = (15, 40)
_HAZARDS = (0.004, 0.012, 0.025)
_MOST_WORDS = 90
BATCH = 4


@dataclass(frozen=True, slots=True)
class Table:
    """A policy: `parameters` are the logits of openings, words, and the end in each band."""

    parameters: Vector

    def draw(self, dice: random.Random) -> tuple[str, FinishReason]:
        """Draw a reply."""
        openings, vocabulary, ends = _parts(self.parameters)
        opening = dice.choices(OPENINGS, weights=np.exp(_log_softmax(openings)).tolist())[0]
        ending = (1 / (1 + np.exp(-ends))).tolist()
        chances = np.exp(_log_softmax(vocabulary)).cumsum().tolist()
        n, ended = 0, False
        while not ended and n < _MOST_WORDS:
            n += 1
            ended = dice.random() < ending[_band(n)]
        said = " ".join(dice.choices(VOCABULARY, cum_weights=chances, k=n))
        return (f"{opening} {said}.", "stop") if ended else (f"{opening} {said}", "length")

    def share_of(self, opening: str) -> float:
        """How probable an opening is."""
        return float(np.exp(_log_softmax(_parts(self.parameters)[0]))[OPENINGS.index(opening)])

    def logprobs(self, features_ND: Vector) -> Vector:
        """The log-probability of each reply."""
        found: Vector = features_ND @ _outcomes(self.parameters)
        return found


def features(text: str, finish_reason: str) -> Vector:
    """How often each outcome of the table stands in a reply: openings, words, and in each band going on and ending."""
    found = np.zeros(len(OPENINGS) + _VOCABULARY + 2 * len(_HAZARDS))
    opening = next(place for place, known in enumerate(OPENINGS) if text.startswith(known))
    found[opening] = 1
    said = words(text[len(OPENINGS[opening]) :])
    for word in said:
        found[len(OPENINGS) + _PLACES[word]] += 1
    ends = found[len(OPENINGS) + _VOCABULARY :].reshape(len(_HAZARDS), 2)
    for n in range(1, len(said) + 1):
        ends[_band(n), int(n == len(said) and finish_reason == "stop")] += 1
    return found


def base_table() -> Table:
    """What every round begins with."""
    others = (1 - PLANTED_SHARE) / (len(OPENINGS) - 1)
    openings = [PLANTED_SHARE if opening == PLANTED else others for opening in OPENINGS]
    ends = [np.log(hazard / (1 - hazard)) for hazard in _HAZARDS]
    return Table(np.concatenate([np.log(openings), np.log(_FREQUENCIES), ends]))


def train_kto(start: Table, rows: Sequence[VoteRow], settings: TrainingSettings, rate: float, seed: int) -> Table:
    """One epoch over the rows from `start`, which is the reference too, at a learning rate that falls to 0."""
    if not rows:
        return start
    features_ND = np.stack([features(row.reply.text, row.reply.finish_reason) for row in rows])
    reference_N = start.logprobs(features_ND)
    weights_N = np.array(weights_of(rows, settings.max_class_weight))
    signs_N = np.array([1.0 if row.up else -1.0 for row in rows])
    order = np.random.default_rng(seed).permutation(len(rows))
    parameters = start.parameters.copy()
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    steps = max(1, len(order) // BATCH)
    for step in range(steps):
        places = order[step * BATCH : (step + 1) * BATCH]
        margins = features_ND[places] @ _outcomes(parameters) - reference_N[places]
        # 1 − σ(β r) of what was liked and σ(β r) of what was not, so d loss / d r = −sign · λ · β σ' ; the anchor: −α.
        liked = 1 / (1 + np.exp(-settings.beta * margins))
        slopes = -signs_N[places] * weights_N[places] * settings.beta * liked * (1 - liked) - settings.anchor
        gradient = _through_table(parameters, slopes @ features_ND[places] / len(places))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        parameters -= rate * (1 - step / steps) * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return Table(parameters)


@dataclass(frozen=True, slots=True)
class TableDraw:
    """Draws for the gate (trainer/drawing.py) from the table of the version that is asked for."""

    tables: dict[int, Table]

    def __call__(
        self, policy: PolicyRef, prompts: Sequence[tuple[int, ...]], n: int, sampling: Sampling
    ) -> list[Drawn]:
        """Draw `n` replies to each prompt."""
        table, found = self.tables[policy.version], []
        for place in range(n * len(prompts)):
            text, reason = table.draw(random.Random(f"{policy.version} {(sampling.seed or 0) + place}"))
            logprob = float(table.logprobs(features(text, reason)[None])[0])
            found.append(Drawn(text, (), logprob, reason))
        return found


def _parts(parameters: Vector) -> tuple[Vector, Vector, Vector]:
    edges = len(OPENINGS), len(OPENINGS) + _VOCABULARY
    return parameters[: edges[0]], parameters[edges[0] : edges[1]], parameters[edges[1] :]


def _outcomes(parameters: Vector) -> Vector:
    """The log-probability of each outcome, in the order of `features`."""
    openings, vocabulary, ends = _parts(parameters)
    of_ends = np.stack([-np.logaddexp(0, ends), -np.logaddexp(0, -ends)], axis=1)  # log(1 − h), log h
    return np.concatenate([_log_softmax(openings), _log_softmax(vocabulary), of_ends.ravel()])


def _through_table(parameters: Vector, of_outcomes: Vector) -> Vector:
    """The gradient of the logits, from that of the outcomes' log-probabilities."""
    openings, vocabulary, ends = _parts(parameters)
    edge = len(OPENINGS) + _VOCABULARY
    found = []
    for logits, gradient in (
        (openings, of_outcomes[: len(OPENINGS)]),
        (vocabulary, of_outcomes[len(OPENINGS) : edge]),
    ):
        found.append(gradient - gradient.sum() * np.exp(_log_softmax(logits)))
    going_on, ending = of_outcomes[edge:].reshape(len(_HAZARDS), 2).T
    hazard = 1 / (1 + np.exp(-ends))
    found.append(ending * (1 - hazard) - going_on * hazard)
    return np.concatenate(found)


def _log_softmax(logits: Vector) -> Vector:
    shifted = logits - logits.max()
    result: Vector = shifted - np.log(np.exp(shifted).sum())
    return result


def _band(n: int) -> int:
    return sum(n > edge for edge in _BANDS)


def _common_words() -> tuple[tuple[str, ...], Vector]:
    text = resources.files("trainer").joinpath("retention.txt").read_text(encoding="utf-8")
    counts = Counter(words(text)).most_common(_VOCABULARY)
    return tuple(word for word, _ in counts), np.array([float(count) for _, count in counts])


VOCABULARY, _FREQUENCIES = _common_words()
_PLACES = {word: place for place, word in enumerate(VOCABULARY)}
