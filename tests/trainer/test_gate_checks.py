"""The gate's arithmetic, in tables."""

import math
from typing import Any

import numpy as np
import pytest

from trainer import gate_checks as checks
from trainer.gate_checks import Check
from trainer.settings import GateSettings

SETTINGS = GateSettings()


@pytest.mark.parametrize(
    ("value", "interval", "n", "at_least", "outcome"),
    [
        (0.9, (0.5, 1.3), 100, False, "pass"),
        (1.0, (0.5, 1.3), 100, False, "pass"),
        (1.1, (0.9, 1.3), 100, False, "inconclusive"),  # it may be chance
        (1.2, (1.1, 1.3), 100, False, "fail"),
        (0.9, (0.5, 1.3), 49, False, "inconclusive"),  # too few to say
        (9.0, (8.0, 9.9), 3, False, "fail"),  # few, but beyond doubt
        (1.1, (0.9, 1.3), 100, True, "pass"),
        (0.9, (0.8, 1.3), 100, True, "inconclusive"),
        (0.5, (0.4, 0.6), 100, True, "fail"),
    ],
)
def test_a_guard_has_three_outcomes(value: float, interval: Any, n: int, at_least: bool, outcome: str) -> None:
    found = checks.guard("x", "it", value, interval, 1.0, hard=True, n=n, enough=50, at_least=at_least)
    assert found.outcome == outcome
    assert "wanted" in found.reason


def made(outcome: Any, hard: bool = True) -> Check:
    return Check("x", 1.0, None, 1.0, hard, outcome, f"{outcome} {'hard' if hard else 'soft'}")


@pytest.mark.parametrize(
    ("found", "outcome", "said"),
    [
        ([made("pass"), made("pass")], "pass", "every check passed"),
        ([made("pass"), made("fail", False)], "pass", "warnings: fail soft"),
        ([made("pass"), made("inconclusive", False)], "pass", "every check passed"),
        ([made("pass"), made("inconclusive")], "inconclusive", "inconclusive hard"),
        ([made("fail"), made("inconclusive")], "fail", "fail hard"),
    ],
)
def test_too_little_evidence_is_no_pass_and_a_soft_failure_is_a_warning(found: Any, outcome: str, said: str) -> None:
    assert checks.overall(found)[0] == outcome
    assert said in checks.overall(found)[1]


def preference(effect: float, n: int, seed: int = 0) -> Check:
    generator = np.random.default_rng(seed)
    ups = generator.random(n) < 0.5
    margins = generator.normal(size=n) + effect * ups
    return checks.held_out_preference(margins.tolist(), ups.tolist(), [place % 12 for place in range(n)], SETTINGS, 0)


@pytest.mark.parametrize(
    ("effect", "n", "outcome"),
    [(1.5, 100, "pass"), (0.0, 100, "inconclusive"), (-1.5, 100, "fail"), (1.5, 19, "inconclusive")],
)
def test_held_out_preference_passes_only_when_its_interval_lies_above_a_half(
    effect: float, n: int, outcome: str
) -> None:
    assert preference(effect, n).outcome == outcome


@pytest.mark.parametrize(
    ("ups", "raters"),
    [([True] * 30, list(range(30))), ([True, False] * 15, [0] * 30)],
    ids=["one kind", "one rater"],
)
def test_held_out_votes_of_one_kind_or_one_rater_prove_nothing(ups: list[bool], raters: list[int]) -> None:
    found = checks.held_out_preference([float(up) for up in ups], ups, raters, SETTINGS, 0)
    assert (found.outcome, found.value) == ("inconclusive", None)


def test_votes_of_few_raters_count_less_than_votes_of_many() -> None:
    generator = np.random.default_rng(0)
    quirk = generator.normal(size=4)
    raters = [place % 4 for place in range(120)]
    ups = [bool(generator.random() < (0.8 if rater % 2 else 0.2)) for rater in raters]
    margins = [quirk[rater] + float(generator.normal()) * 0.1 for rater in raters]
    clustered = checks.held_out_preference(margins, ups, raters, SETTINGS, 0)
    alone = checks.held_out_preference(margins, ups, list(range(120)), SETTINGS, 0)
    assert clustered.interval and alone.interval
    assert clustered.interval[1] - clustered.interval[0] > alone.interval[1] - alone.interval[0]


def test_held_out_pairs_are_reported_from_thirty_on() -> None:
    assert checks.held_out_pairs([1.0] * 29, list(range(29)), SETTINGS, 0) is None
    found = checks.held_out_pairs([1.0] * 20 + [0.0] * 10 + [-1.0] * 10, list(range(40)), SETTINGS, 0)
    assert found is not None and found.value == pytest.approx(25 / 40)
    assert not found.hard


def test_k3_is_never_negative_and_zero_for_the_same_policy() -> None:
    assert checks.k3_nats([-1.0, -2.0], [-1.0, -2.0]) == 0
    assert checks.k3_nats([-1.0], [-3.0]) == pytest.approx(math.exp(-2) - 1 + 2)
    assert checks.k3_nats([-5.0], [-0.1]) > 0
    assert math.isfinite(checks.k3_nats([-500.0], [0.0]))


def test_k3_on_average_is_the_kl_of_the_two_policies() -> None:
    generator = np.random.default_rng(0)
    own, other = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.3, 0.2])
    exact = float((own * np.log(own / other)).sum())
    drawn = generator.choice(3, size=20_000, p=own)
    nats = [checks.k3_nats([math.log(own[token])], [math.log(other[token])]) for token in drawn]
    assert float(np.mean(nats)) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(
    ("candidate", "live", "liked", "outcome"),
    [
        (40, 68, 30, "pass"),  # on its way to what raters liked
        (68, 68, 30, "pass"),
        (22.5, 68, 30, "pass"),
        (22, 68, 30, "fail"),  # overshot
        (86, 68, 30, "fail"),
        (60, 68, None, "pass"),
        (40, 68, None, "fail"),  # nothing says that shorter is liked
    ],
)
def test_length_may_move_toward_what_raters_liked_and_not_beyond(
    candidate: float, live: float, liked: float | None, outcome: str
) -> None:
    found = checks.length(candidate, live, liked, SETTINGS)
    assert found.outcome == outcome
    assert not found.hard


@pytest.mark.parametrize(
    ("rise", "hard", "soft"),
    [(-0.01, "pass", "pass"), (0.02, "pass", "pass"), (0.04, "pass", "fail"), (0.06, "fail", "fail")],
)
def test_perplexity_warns_at_three_per_cent_and_fails_at_five(rise: float, hard: str, soft: str) -> None:
    base = [-2.0 - 0.01 * place for place in range(30)]
    candidate = [value - math.log1p(rise) for value in base]
    found = checks.perplexity(candidate, base, SETTINGS, 0)
    assert [(check.hard, check.outcome) for check in found] == [(True, hard), (False, soft)]
    assert found[0].value == pytest.approx(rise)


@pytest.mark.parametrize(
    ("candidate", "live", "outcome"),
    [(0, 0, "pass"), (1, 1, "pass"), (3, 0, "inconclusive"), (22, 0, "fail"), (22, 22, "pass")],
)
def test_a_rise_of_short_replies_blocks(candidate: int, live: int, outcome: str) -> None:
    """Seventeen per cent of replies under three words hid behind a win rate of 67 %."""
    flags = [[place < count for place in range(128)] for count in (candidate, live)]
    found = checks.share_rise("short", "short replies", flags[0], flags[1], 0.01, SETTINGS, hard=True)
    assert found.outcome == outcome


def test_a_share_that_live_shows_already_is_no_fault_of_the_candidate() -> None:
    flags = [place < 40 for place in range(128)]
    assert checks.share_at_most("opening", "x", flags, flags, 0.2, SETTINGS).outcome == "pass"
    assert checks.share_at_most("opening", "x", flags, [False] * 128, 0.2, SETTINGS).outcome == "fail"


def test_means_are_compared_with_live() -> None:
    some, more = [0.01] * 60, [0.2] * 60
    assert checks.mean_rise("repeated", "x", more, some, 0.02, SETTINGS, 0).outcome == "fail"
    assert checks.mean_rise("repeated", "x", some, more, 0.02, SETTINGS, 0).outcome == "pass"
    assert checks.mean_ratio("distinct", "x", [0.5] * 60, [0.9] * 60, 0.9, SETTINGS, 0).outcome == "fail"
    assert checks.mean_ratio("distinct", "x", [0.9] * 60, [0.9] * 60, 0.9, SETTINGS, 0).value == pytest.approx(1)
    assert checks.mean_ratio("distinct", "x", [], [0.9] * 60, 0.9, SETTINGS, 0).outcome == "inconclusive"


def test_the_interval_of_a_difference_turns_round_with_its_sides() -> None:
    first, second = (0.3, (0.2, 0.45)), (0.1, (0.05, 0.2))
    value, (low, high) = checks.difference(first, second)
    back, (back_low, back_high) = checks.difference(second, first)
    assert (back, back_low, back_high) == pytest.approx((-value, -high, -low))
    assert low < value < high
