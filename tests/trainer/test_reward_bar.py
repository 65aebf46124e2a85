"""When a reward model is good enough, and how far raters agree: arithmetic against hand-computed values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.parts import question, reply_text
from trainer.job import PairRow
from trainer.method_settings import RewardSettings
from trainer.pair_agreement import PairAgreement, agreeing_share, ceiling, consensus, measured_agreement
from trainer.reward_bar import best_temperature, calibration_error, judge, least_certain

AGREED = PairAgreement(0.7, None, 0, assumed=True)


def rows(count: int) -> list[PairRow]:
    return [
        PairRow(n, n, question("?"), reply_text("a", reply_id=f"a{n}"), reply_text("b", reply_id=f"b{n}"))
        for n in range(count)
    ]


def margins(right: int, wrong: int, size: float = 1.4) -> list[float]:
    """Of this accuracy; σ(1.4) = 0.80."""
    return [size] * right + [-size] * wrong


@pytest.mark.parametrize(("agreement", "most"), [(1.0, 1.0), (0.7, 0.8162), (0.5, 0.5), (0.3, 0.5)])
def test_the_ceiling_follows_from_how_often_raters_agree(agreement: float, most: float) -> None:
    assert ceiling(agreement) == pytest.approx(most, abs=1e-4)


@given(st.floats(0.5, 1.0))
def test_raters_who_are_right_with_the_ceilings_chance_agree_as_often(agreement: float) -> None:
    p = ceiling(agreement)
    assert p * p + (1 - p) * (1 - p) == pytest.approx(agreement, abs=1e-9)


@pytest.mark.parametrize(
    ("votes", "share"), [([True], None), ([True, True], 1), ([True, False], 0), ([True, True, False], 1 / 3)]
)
def test_agreement_counts_pairs_of_votes(votes: list[bool], share: float | None) -> None:
    assert agreeing_share(votes) == share


def test_a_rater_counts_once_a_comparison_and_order_does_not_matter() -> None:
    verdicts = [("r1", "a", "b"), ("r2", "b", "a"), ("r2", "a", "b"), ("r3", "a", "b"), ("r1", "x", "y")]
    found = measured_agreement(verdicts, at_least=1, assumed=0.7)
    assert (found.value, found.comparisons, found.assumed) == (1.0, 1, False)
    assert consensus(verdicts) == {("a", "b"): True}
    assert measured_agreement(verdicts, at_least=2, assumed=0.7) == PairAgreement(0.7, None, 1, assumed=True)
    assert found.label_noise == 0


def test_calibration_against_hand_values() -> None:
    sure = math.log(0.9 / 0.1)  # a confidence of 0.9
    assert calibration_error([sure] * 9 + [-sure]) == pytest.approx(0, abs=1e-9)
    assert calibration_error([sure] * 5 + [-sure] * 5) == pytest.approx(0.4)
    assert calibration_error([0.0] * 4) == pytest.approx(0)
    assert calibration_error([]) == 0


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_overconfidence(factor: float) -> None:
    honest = math.log(0.8 / 0.2)
    assert best_temperature([factor * honest] * 80 + [-factor * honest] * 20) == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize(
    ("found", "passed", "said"),
    [
        (margins(160, 40), True, "above its bar"),
        (margins(150, 50), True, "above its bar"),
        (margins(140, 60), False, "accuracy 0.7 [0.633, 0.759], wanted ≥ 0.735"),
        (margins(159, 40), False, "held-out comparisons 199"),
        (margins(160, 40, size=9.0), False, "calibration error 0.2, wanted ≤ 0.08"),
        (margins(0, 0), False, "held-out comparisons 0"),
    ],
)
def test_a_reward_model_passes_exactly_from_its_bar_on(found: list[float], passed: bool, said: str) -> None:
    report = judge(found, rows(len(found)), AGREED, RewardSettings())
    assert (report["passed"], said in report["summary"]) == (passed, True), report["summary"]
    assert bool(report["ask"]) == (not passed and bool(found))


def test_where_raters_are_of_one_mind_more_is_asked() -> None:
    held = rows(200)
    votes = [PairRow(n, rater, row.messages, row.chosen, row.rejected) for rater in (1000, 1001, 1002) for n, row in
             enumerate(held[:40])]  # fmt: skip
    few_wrong = judge(margins(160, 40), held, AGREED, RewardSettings(), every_vote=votes)
    assert few_wrong["passed"]
    reverse = judge(margins(160, 40)[::-1], held, AGREED, RewardSettings(), every_vote=votes)
    assert not reverse["passed"]
    assert "of one mind 0 [0, 0.0876], wanted ≥ 0.85" in reverse["summary"]


def test_it_asks_about_what_it_is_least_sure_of_once() -> None:
    held = rows(3) + rows(1)
    assert least_certain([3.0, -0.1, 1.0, 0.2], held, 2) == [["a1", "b1"], ["a0", "b0"]]
