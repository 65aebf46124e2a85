"""Intervals and AUC: known values, properties, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store.statistics import auc, bootstrap_auc, bootstrap_mean, wilson

SCORES = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=30)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(85, 100, 0.7672, 0.9069), (17, 20, 0.6396, 0.9476), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0, 1)],
)
def test_wilson_gives_the_known_interval(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 500), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_holds_the_share_and_mirrors(n: int, share: float, confidence: float) -> None:
    successes = round(share * n)
    low, high = wilson(successes, n, confidence)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored_low, mirrored_high = wilson(n - successes, n, confidence)
    assert (1 - mirrored_high, 1 - mirrored_low) == pytest.approx((low, high))


@given(SCORES)
def test_auc_counts_the_pairs_that_are_in_order(pairs: list[tuple[int, bool]]) -> None:
    positive = [score for score, label in pairs if label]
    negative = [score for score, label in pairs if not label]
    scores, labels = zip(*pairs, strict=True)
    if not positive or not negative:
        with pytest.raises(ValueError, match="at least one of either"):
            auc(scores, labels)
        return
    in_order = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    assert auc(scores, labels) == pytest.approx(in_order / (len(positive) * len(negative)))
    assert auc([-score for score in scores], labels) == pytest.approx(1 - auc(scores, labels))


def test_a_bootstrap_is_the_same_for_the_same_seed_and_covers_the_mean() -> None:
    values = np.random.default_rng(1).normal(2.0, 1.0, 200)
    mean, low, high = bootstrap_mean(values, 0.95, seed=3)
    assert (mean, low, high) == bootstrap_mean(values, 0.95, seed=3)
    assert low < mean < high and low < 2.0 < high
    # The normal approximation: ±1.96 s/√n.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 200**0.5, rel=0.1)


def test_values_of_one_group_are_resampled_together() -> None:
    """20 groups of 10 equal values hold 20 observations, not 200."""
    group_values = np.random.default_rng(2).normal(0, 1, 20)
    values, groups = np.repeat(group_values, 10), [f"prompt {number}" for number in np.repeat(np.arange(20), 10)]
    _, low, high = bootstrap_mean(values, seed=0)
    _, wide_low, wide_high = bootstrap_mean(values, seed=0, cluster=groups)
    assert (wide_high - wide_low) / (high - low) == pytest.approx(10**0.5, rel=0.2)


def test_an_interval_of_auc_narrows_with_evidence_and_holds_chance_when_there_is_none() -> None:
    random = np.random.default_rng(4)
    labels = random.random(300) < 0.3
    value, low, high = bootstrap_auc(random.normal(size=300), labels, seed=0)
    assert low < 0.5 < high and low < value < high
    value, low, high = bootstrap_auc(random.normal(size=300) + 2 * labels, labels, seed=0)
    assert 0.85 < low < value < high <= 1
    scores = random.normal(size=300)
    clusters_of_one = bootstrap_auc(scores, labels, seed=0, cluster=list(range(300)))
    assert clusters_of_one == bootstrap_auc(scores, labels, seed=0)


@settings(max_examples=20)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_a_bootstrapped_mean_lies_among_the_values(values: list[float]) -> None:
    mean, low, high = bootstrap_mean(values)
    slack = 1e-6 * (1 + max(map(abs, values)))
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert mean == pytest.approx(np.mean(values))


def test_what_cannot_be_counted_is_refused() -> None:
    for call in (
        lambda: wilson(3, 2),
        lambda: wilson(-1, 2),
        lambda: wilson(1, 2, 1.0),
        lambda: bootstrap_mean([]),
        lambda: bootstrap_mean([1.0], 0.0),
        lambda: bootstrap_mean([1.0, 2.0], cluster=["a"]),
        lambda: auc([1.0, 2.0], [True]),
        lambda: auc([float("nan"), 2.0], [True, False]),
        lambda: bootstrap_auc([1.0, 2.0], [True, True]),
    ):
        with pytest.raises(ValueError, match="wanted"):
            call()
