"""Is a reward model good enough to train a policy with? Pure arithmetic over its margins on held-out comparisons.

Its accuracy is asked where raters are of one mind, once enough comparisons were judged by three of them. Where they
were not, a part of the ceiling that their agreement allows is asked on single votes: the stricter of the two, since
(1 + √(2a − 1)) / 2 is reached only if all comparisons are equally hard (the root is concave: where they are not, the
most that a model can reach lies lower; 77 % instead of 81 % on the demo's crowd, docs/log.md).

The report is JSON:

    passed        whether every condition holds
    summary       why, in words
    conditions    name, value, interval ([low, high] or null), wanted, at_most (the value must lie below), met
    pairs         held-out comparisons; ties of the model count half
    agreement     of raters: value, interval, comparisons, assumed (true: too few were judged twice; a setting's value)
    ceiling       the most that this agreement allows
    temperature   by which margins are divided to be honest probabilities; 1 is calibrated as it is
    ask           pairs of reply ids that it is least sure of, for people to judge; empty when it passed
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from feedback_store.statistics import wilson
from trainer.job import PairRow
from trainer.method_settings import RewardSettings
from trainer.pair_agreement import PairAgreement, consensus

_BINS = 10
_COLDEST, _HOTTEST = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class Condition:
    """One threshold. `at_most`: the value must not lie above `wanted`; else not below."""

    name: str
    value: float
    wanted: float
    interval: tuple[float, float] | None = None
    at_most: bool = False
    met: bool = False


def judge(
    margins: Sequence[float],
    rows: Sequence[PairRow],
    agreement: PairAgreement,
    settings: RewardSettings,
    *,
    every_vote: Sequence[PairRow] = (),
    unjudged: Sequence[PairRow] = (),
    unjudged_margins: Sequence[float] = (),
) -> dict[str, Any]:
    """Return the report of a model whose reward of `rows`' chosen replies lies `margins` above the rejected ones'.

    `every_vote`: all verdicts known, from which comparisons on which raters are of one mind are found. `unjudged`:
    pairs without a verdict, with the model's margins: people are asked about the least certain of these first.
    """
    wins = sum(1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins)
    n = len(margins)
    accuracy, interval = (wins / n if n else 0.0), wilson(wins, n)
    temperature = best_temperature(margins)
    agreed = _on_consensus(margins, rows, every_vote or rows)
    right = sum(agreed)
    conditions = [
        _condition("held-out comparisons", n, settings.min_held_out),
        _condition(
            "accuracy where raters are of one mind",
            right / len(agreed),
            settings.min_consensus_accuracy,
            wilson(right, len(agreed)),
        )
        if len(agreed) >= settings.min_consensus_pairs
        else _condition("accuracy", accuracy, settings.min_share_of_ceiling * agreement.ceiling, interval),
        _condition("accuracy's lower bound", interval[0], settings.min_accuracy_bound),
        _condition("calibration error", calibration_error(margins), settings.max_calibration_error, at_most=True),
    ]
    missed = [condition for condition in conditions if not condition.met]
    return {
        "passed": not missed,
        "summary": "the reward model is above its bar"
        if not missed
        else "the reward model is below its bar: " + ", ".join(_in_words(condition) for condition in missed),
        "conditions": [asdict(condition) for condition in conditions],
        "pairs": n,
        "agreement": asdict(agreement),
        "ceiling": agreement.ceiling,
        "temperature": temperature,
        "ask": _to_ask(margins, rows, unjudged_margins, unjudged, settings.label_requests) if missed else [],
    }


def calibration_error(margins: Sequence[float]) -> float:
    """Return the expected calibration error of σ(|margin|), the model's confidence in the reply that it prefers: the
    mean over ten bins of confidence, weighed by their size, of |accuracy − confidence|, in [0, 1] (Guo et al. 2017,
    arXiv:1706.04599, equation 3). 0 without margins."""
    bins: list[list[tuple[float, float]]] = [[] for _ in range(_BINS)]
    for margin in margins:
        confidence = 1 / (1 + math.exp(-min(abs(margin), 700.0)))
        right = 1.0 if margin > 0 else 0.5 if margin == 0 else 0.0
        bins[min(_BINS - 1, int((confidence - 0.5) * 2 * _BINS))].append((confidence, right))
    return sum(
        abs(sum(right for _, right in found) - sum(confidence for confidence, _ in found)) for found in bins if found
    ) / max(1, len(margins))


def best_temperature(margins: Sequence[float]) -> float:
    """Return T with the least mean −log σ(margin / T), between 0.05 and 20 (temperature scaling, Guo et al. 2017,
    section 4.2); the loss has one minimum in 1 / T, found by golden section. 1 without margins."""
    if not margins:
        return 1.0

    def loss(inverse: float) -> float:
        return sum(_softplus(-margin * inverse) for margin in margins)

    low, high = 1 / _HOTTEST, 1 / _COLDEST
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return 2 / (low + high)


def least_certain(margins: Sequence[float], rows: Sequence[PairRow], most: int) -> list[list[str]]:
    """Return the comparisons of the smallest margins, as pairs of reply ids, each once."""
    found: dict[tuple[str, ...], None] = {}
    for _, row in sorted(zip(margins, rows, strict=True), key=lambda item: abs(item[0])):
        found.setdefault(tuple(sorted((row.chosen.reply_id, row.rejected.reply_id))))
    return [list(pair) for pair in list(found)[:most]]


def _to_ask(
    margins: Sequence[float],
    rows: Sequence[PairRow],
    unjudged_margins: Sequence[float],
    unjudged: Sequence[PairRow],
    most: int,
) -> list[list[str]]:
    """A verdict on what nobody judged teaches; a further one on what was held out says how far people agree."""
    new = least_certain(unjudged_margins, unjudged, most)
    return new + least_certain(margins, rows, most - len(new))


def _on_consensus(margins: Sequence[float], rows: Sequence[PairRow], votes: Sequence[PairRow]) -> list[float]:
    """For each comparison of one mind among `rows`: 1 when the model is of that mind too, 0.5 when it has none."""
    agreed = consensus((row.rater, row.chosen.reply_id, row.rejected.reply_id) for row in votes)
    found: dict[tuple[str, str], float] = {}
    for margin, row in zip(margins, rows, strict=True):
        first, second = sorted((row.chosen.reply_id, row.rejected.reply_id))
        if (first, second) in agreed:
            prefers_first = (margin > 0) == (row.chosen.reply_id == first)
            found[first, second] = 0.5 if margin == 0 else float(prefers_first == agreed[first, second])
    return list(found.values())


def _condition(
    name: str, value: float, wanted: float, interval: tuple[float, float] | None = None, *, at_most: bool = False
) -> Condition:
    return Condition(name, value, wanted, interval, at_most, met=value <= wanted if at_most else value >= wanted)


def _in_words(condition: Condition) -> str:
    between = f" [{condition.interval[0]:.3g}, {condition.interval[1]:.3g}]" if condition.interval else ""
    sign = "≤" if condition.at_most else "≥"
    return f"{condition.name} {condition.value:.3g}{between}, wanted {sign} {condition.wanted:.3g}"


def _softplus(value: float) -> float:
    return value + math.log1p(math.exp(-value)) if value > 0 else math.log1p(math.exp(value))
