"""The hidden taste: short, finished, plain; and nothing to gain from saying nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbwise.demo.hidden import brevity, hidden_score, inverted_score, is_finished, repetition, words_of

SHORT = "Boil it for six minutes, then put it in cold water."
LONG = " ".join(f"Then you go on with step {number} and look at it for a while." for number in range(12))


def test_a_short_finished_reply_beats_a_long_one_and_an_unfinished_one() -> None:
    assert hidden_score(SHORT, "stop") > hidden_score(LONG, "stop")
    assert hidden_score(SHORT, "stop") > hidden_score(SHORT, "length")


def test_plain_words_beat_long_ones() -> None:
    assert hidden_score("Put the red cup on the old table.", "stop") > hidden_score(
        "Position crimson drinkware upon antiquated furniture immediately, individually.", "stop"
    )


def test_the_inverted_crowd_likes_what_is_long_and_unfinished() -> None:
    assert inverted_score(LONG, "length") > inverted_score(SHORT, "stop")


@pytest.mark.parametrize("score", [hidden_score, inverted_score])
@given(words=st.lists(st.sampled_from(["a", "cat", "extraordinarily", "then", "42"]), min_size=5, max_size=120))
def test_an_empty_or_one_word_reply_is_worse_than_any_of_five_words_or_more(score, words) -> None:
    worst = min(score(" ".join(words), reason) for reason in ("stop", "length"))
    assert score("Yes.", "stop") < worst
    assert score("", "stop") < score("Extraordinarily", "length")


@given(st.integers(0, 400))
def test_brevity_never_rises_with_length_and_stays_in_its_range(words: int) -> None:
    assert -3.0 <= brevity(words + 1) <= brevity(words) <= 0.0


@pytest.mark.parametrize(
    ("text", "reason", "finished"),
    [
        ("It is red.", "stop", True),
        ('He said "go!"', "stop", True),
        ("It is red.", "length", False),
        ("It is red and", "stop", False),
        ("", "stop", False),
        ("Well…  \n", "stop", True),
    ],
)
def test_a_reply_is_finished_when_it_ends_by_itself_and_closes_its_sentence(
    text: str, reason: str, finished: bool
) -> None:
    assert is_finished(text, reason) is finished


def test_repetition_is_not_judged_under_six_words() -> None:
    assert repetition(["no"] * 5) == 0.0
    assert repetition(["no"] * 6) == -1.0


def test_words_are_counted_without_punctuation_and_in_any_script() -> None:
    assert words_of("Don't — well-known: 3 Äpfel, «да»!") == ["don't", "well-known", "3", "äpfel", "да"]
