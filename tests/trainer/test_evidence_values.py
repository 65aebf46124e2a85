"""E-values: the formula, its bound under continuous looking, and the confidence sequence."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evidence_values import Side, confidence_sequence, log_e, mean_log_e

SIDES: tuple[Side, Side] = ("below", "above")


def beta_integral(successes: int, n: int, p0: float, low: float, high: float) -> float:
    """The definition, summed: mean likelihood ratio over a uniform prior between low and high."""
    steps = 20_000
    points = [low + (high - low) * (step + 0.5) / steps for step in range(steps)]
    return sum((p / p0) ** successes * ((1 - p) / (1 - p0)) ** (n - successes) for p in points) / steps


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 10), (9, 10), (40, 100)])
def test_the_formula_is_the_mean_likelihood_ratio_over_its_prior(successes: int, n: int) -> None:
    sides: tuple[tuple[Side, float, float], ...] = (("both", 0, 1), ("below", 0, 0.5), ("above", 0.5, 1))
    for side, low, high in sides:
        found = math.exp(log_e(successes, n, 0.5, side=side))
        assert found == pytest.approx(beta_integral(successes, n, 0.5, low, high), rel=1e-3)


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.1, 0.9), st.floats(1, 30))
def test_swapping_successes_and_failures_swaps_the_sides(wins: int, losses: int, p0: float, prior: float) -> None:
    n = wins + losses
    below = log_e(wins, n, p0, prior, prior, "below")
    assert log_e(losses, n, 1 - p0, prior, prior, "above") == pytest.approx(below, abs=1e-6)


@given(st.integers(0, 200), st.integers(0, 200))
def test_both_sides_weighed_by_their_prior_mass_make_the_whole(wins: int, losses: int) -> None:
    sides = [(0.5, log_e(wins, wins + losses, 0.5, 12, 12, side)) for side in SIDES]
    assert mean_log_e(sides) == pytest.approx(log_e(wins, wins + losses, 0.5, 12, 12), abs=1e-6)


def test_no_trials_are_no_evidence() -> None:
    assert log_e(0, 0) == pytest.approx(0)
    assert confidence_sequence(0, 0) == (0.0, 1.0)


def test_the_confidence_sequence_is_where_the_evidence_stays_below_the_threshold() -> None:
    low, high = confidence_sequence(60, 100, 20, 12, 12)
    assert 0.45 < low < 0.6 < high < 0.75
    for inside in (low + 1e-3, 0.6, high - 1e-3):
        assert log_e(60, 100, inside, 12, 12) < math.log(20)
    for outside in (low - 1e-3, high + 1e-3):
        assert log_e(60, 100, outside, 12, 12) > math.log(20)
    assert confidence_sequence(0, 50)[0] == 0.0
    assert confidence_sequence(50, 50)[1] == 1.0


def test_looking_after_every_vote_alarms_falsely_in_at_most_one_run_of_twenty() -> None:
    dice = random.Random(5)
    alarms, runs = 0, 200
    for _ in range(runs):
        wins = 0
        for n in range(1, 301):
            wins += dice.random() < 0.5
            if log_e(wins, n, 0.5, 12, 12) > math.log(20):
                alarms += 1
                break
    assert alarms / runs <= 0.05


@pytest.mark.parametrize(("successes", "n", "p0"), [(3, 2, 0.5), (-1, 2, 0.5), (1, 2, 0.0), (1, 2, 1.0)])
def test_impossible_counts_are_refused(successes: int, n: int, p0: float) -> None:
    with pytest.raises(ValueError, match="wanted: 0 to n"):
        log_e(successes, n, p0)
