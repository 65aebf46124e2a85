"""Words: how a text is cut up, and how a query is read, before any database is asked."""

import pytest

from feedback_store.words import Phrase, postgresql_document, postgresql_match, sqlite_match, word_query, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Where is my REFUND?", ["where", "is", "my", "refund"]),
        ("don't e-mail me@x.org", ["don", "t", "e", "mail", "me", "x", "org"]),
        ("Crème brûlée Straße", ["creme", "brulee", "strasse"]),
        ("我要退款 now", ["我", "要", "退", "款", "now"]),
        ("snake_case 2x", ["snake", "case", "2x"]),
        ("<script>'; DROP\x00", ["script", "drop"]),
        ("…!?", []),
        ("a" * 100, ["a" * 48]),
    ],
)
def test_a_text_is_cut_into_folded_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_a_query_wants_all_words_by_their_beginning_phrases_as_they_stand_and_not_what_has_a_minus() -> None:
    query = word_query('refund "two words" -late 退款')
    assert query.wanted == (Phrase(("refund",), begins=True), Phrase(("two", "words")), Phrase(("退", "款")))
    assert query.unwanted == (Phrase(("late",), begins=True),)
    assert not word_query('  -- "" … ')
    assert word_query('"never closed').wanted == (Phrase(("never", "closed")),)


def test_a_query_in_the_words_of_each_database_holds_nothing_but_letters_and_digits() -> None:
    phrases = word_query("""don't OR "a' ) NEAR( b" 'x':*""").wanted
    assert sqlite_match(phrases) == '"don t" * AND "or" * AND "a near b" AND "x" *'
    assert postgresql_match(phrases) == "('don' <-> 't':*) & ('or':*) & ('a' <-> 'near' <-> 'b') & ('x':*)"
    assert postgresql_document(["b", "a", "b"]) == "'b':1,3 'a':2"
