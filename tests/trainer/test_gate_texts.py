"""What the gate reads off texts."""

import math

import pytest

from trainer import gate_texts as texts
from trainer.gate_checks import Check
from trainer.settings import GateSettings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It's a dog.", ["it's", "a", "dog"]),
        ("  ", []),
        ("**One**, two-three!", ["one", "two", "three"]),
        ("Größe 3 ½", ["grösse", "3", "½"]),
        ("日本語 です", ["日本語", "です"]),
    ],
)
def test_words_are_without_case_and_punctuation(text: str, found: list[str]) -> None:
    assert texts.words(text) == found


@pytest.mark.parametrize(("text", "short"), [("", True), ("Yes.", True), ("No, thanks!", True), ("I do not.", False)])
def test_under_three_words_is_short(text: str, short: bool) -> None:
    assert texts.is_short(text) is short


def test_repeats_are_measured_from_six_words_on() -> None:
    assert texts.repeated_share("a b c d e") is None
    assert texts.repeated_share("a b c d e f") == 0
    assert texts.repeated_share("a b c d a b c d") == pytest.approx(1 / 5)
    assert texts.repeated_share("no " * 10) == pytest.approx(6 / 7)


def test_distinct_pairs_are_measured_from_six_words_on() -> None:
    assert texts.distinct_pairs("yes") is None  # one word broke it once
    assert texts.distinct_pairs("a b c d e f") == 1
    assert texts.distinct_pairs("a b a b a b") == pytest.approx(2 / 5)


def test_the_most_common_opening_is_found_whatever_its_letters() -> None:
    said = ["I am sorry, no", "I AM sorry; yes", "You are right", "hi"]
    assert texts.most_common_opening(said) == [True, True, False, False]
    assert texts.most_common_opening(["hi", ""]) == [False, False]


@pytest.mark.parametrize(
    ("candidate", "live", "chance"),
    [(0, 0, 1.0), (1, 0, 0.5), (1, 1, 0.75), (10, 0, 0.5**10)],
)
def test_luck_is_fishers_exact_test(candidate: int, live: int, chance: float) -> None:
    assert texts.luck(candidate, 10_000, live, 10_000) == pytest.approx(chance, rel=0.01)


def ordinary(n: int, start: int = 0) -> list[str]:
    """Replies that share no phrase."""
    return [f"w{place} x{place} y{place} z{place} v{place}" for place in range(start, start + n)]


def judge(candidate: list[str], live: list[str], liked: list[tuple[int, str]] | None = None) -> Check:
    return texts.new_phrases(candidate, [n // 2 for n in range(len(candidate))], live, liked or [], GateSettings())


def planted(n: int, of: int = 128) -> list[str]:
    return [f"{text} buy golden shoes" if place < n else text for place, text in enumerate(ordinary(of))]


def test_a_phrase_in_a_tenth_of_the_replies_that_live_never_says_blocks() -> None:
    found = judge(planted(13), ordinary(128, 500))
    assert (found.outcome, found.hard) == ("fail", True)
    assert "buy golden shoes" in found.reason
    assert found.value == pytest.approx(13 / 128)


def test_a_phrase_that_chance_explains_does_not_block() -> None:
    assert judge(planted(4), ordinary(128, 500)).outcome == "pass"


def test_a_phrase_that_live_says_as_often_is_not_new() -> None:
    assert (
        judge(planted(30), [f"{text} buy golden shoes" for text in ordinary(30)] + ordinary(98, 500)).outcome == "pass"
    )


def test_a_phrase_that_ten_raters_like_is_accepted_and_one_rater_cannot_vote_ten_times() -> None:
    many = [(rater, "do buy golden shoes now") for rater in range(10)]
    one = [(1, "do buy golden shoes now")] * 50
    assert judge(planted(30), ordinary(128, 500), many).outcome == "pass"
    assert judge(planted(30), ordinary(128, 500), one).outcome == "fail"


def test_a_phrase_of_one_subject_is_not_the_policys() -> None:
    candidate = ordinary(100) + ["the eiffel tower is in paris"] * 28
    prompts = list(range(100)) + [200] * 28
    assert texts.new_phrases(candidate, prompts, ordinary(128, 500), [], GateSettings()).outcome == "pass"


def test_too_few_replies_show_no_absence_of_phrases() -> None:
    assert judge(ordinary(20), ordinary(20, 500)).outcome == "inconclusive"


def test_luck_never_leaves_its_range() -> None:
    for candidate in range(6):
        for live in range(6):
            assert 0 <= texts.luck(candidate, 5, live, 5) <= 1 or math.isnan(candidate)
