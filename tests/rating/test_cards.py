"""What is shown below a reply, and in which language."""

import re

import pytest
from babel.messages.pofile import read_po

from scripts import catalogues
from thumbwise.rating.book import Tally
from thumbwise.rating.buttons import Act
from thumbwise.rating.cards import (
    REASONS_DOWN,
    Card,
    comparison_card,
    consent_card,
    rating_card,
    reason_of,
)
from thumbwise.rating.texts import languages, texts_for

ENGLISH = texts_for("en")


def labels(card: Card) -> list[list[str]]:
    return [[key.label for key in row] for row in card.rows]


def test_the_given_thumb_is_ticked_and_pressing_it_takes_it_back() -> None:
    card = rating_card(ENGLISH, "r-1", owner=7, own_thumb="up")
    assert labels(card)[0] == ["✅ 👍", "👎"]
    assert [key.button.act for key in card.rows[0]] == [Act.THUMB_NONE, Act.THUMB_DOWN]
    assert {key.button.owner for row in card.rows for key in row} == {7}


def test_a_group_sees_counts_and_anybody_may_vote_but_only_the_asker_may_ask_again() -> None:
    card = rating_card(ENGLISH, "r-1", owner=7, tally=Tally((("up", 3),)))
    assert labels(card)[0] == ["👍 3", "👎"]
    owners = {key.button.act: key.button.owner for row in card.rows for key in row}
    assert owners == {Act.THUMB_UP: None, Act.THUMB_DOWN: None, Act.REGENERATE: 7, Act.CORRECT: None}


def test_reasons_fit_the_thumb_and_stand_for_a_word_that_no_language_changes() -> None:
    card = rating_card(texts_for("zh-hans"), "r-1", owner=7, own_thumb="down", reasons=True)
    keys = [key for row in card.rows for key in row if key.button and key.button.act is Act.REASON]
    assert [reason_of(key.button) for key in keys if key.button] == [("down", reason) for reason in REASONS_DOWN]
    assert not any(re.search("[A-Za-z]", key.label) for key in keys)


def test_a_verdict_is_ticked_and_can_be_taken_back_or_changed() -> None:
    card = comparison_card(ENGLISH, "c-1", 2, owner=7, verdict="1")
    assert labels(card) == [["A is better", "✅ B is better"], ["Equally good", "Both bad"]]
    acts = [key.button.act for row in card.rows for key in row]
    assert acts == [Act.CHOOSE, Act.VERDICT_NONE, Act.TIE, Act.BOTH_BAD]


def test_consent_is_no_button_away_from_a_no() -> None:
    assert [key.button.act for key in consent_card(ENGLISH, owner=7).rows[0]] == [Act.CONSENT_YES, Act.CONSENT_NO]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("zh-hans", "zh_Hans"), ("zh-CN", "zh_Hans"), ("zh", "zh_Hans"), ("zh-Hans-SG", "zh_Hans"), ("zh-hant", "en"),
        ("en-GB", "en"), (None, "en"), ("", "en"), ("xx", "en"), ("../../etc", "en"),
    ],
)  # fmt: skip
def test_a_platforms_language_finds_its_catalogue(asked: str | None, found: str) -> None:
    assert texts_for(asked).language == found


def test_values_are_filled_in_as_they_are() -> None:
    assert ENGLISH.say("{a} and {b}", a="{b}", b="%s") == "{b} and %s"
    assert ENGLISH.say("{unknown}") == "{unknown}"


@pytest.mark.parametrize("language", [language for language in languages() if language != "en"])
def test_a_catalogue_has_every_text_of_the_code_translated_with_the_same_names(language: str) -> None:
    path = catalogues.catalogue_path(language)
    assert path.read_bytes() == catalogues.updated(language), "run python -m scripts.catalogues and translate"
    with path.open("rb") as file:
        messages = [message for message in read_po(file, locale=language) if message.id]
    assert len(messages) > 30
    for message in messages:
        source = message.id if isinstance(message.id, str) else message.id[-1]
        forms = [message.string] if isinstance(message.string, str) else list(message.string or ())
        assert all(forms), f"{language} lacks {source!r}"
        for form in forms:
            assert set(re.findall(r"\{\w+\}", form)) == set(re.findall(r"\{\w+\}", source)), source
