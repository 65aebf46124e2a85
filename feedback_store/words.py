"""Words to search by: one way to cut a text up, alike on both databases and in every script.

Each database has a tokenizer of its own, and they differ on hyphens, addresses and Chinese. So texts are cut here, and
the databases are handed words: case and accents folded, a run of letters and digits a word, and each character of a
script that writes no spaces (Chinese, Japanese, Thai …) a word by itself, which a query then wants side by side.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MOST_WORDS = 8_000
"""Words of one text that are indexed: PostgreSQL counts no further than 16,383."""
MOST_LETTERS = 48
"""Letters of a word that count; a longer one is a key or an encoding, and found by its beginning."""
MOST_PHRASES = 12
"""Phrases of a query that count."""

# Scripts without spaces between words: kana, Han with its extensions, Hangul not (it has spaces), Thai to Burmese.
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ALONE += "\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_ALONE}]|[^\\W_{_ALONE}]+")
_IS_ALONE = re.compile(f"[{_ALONE}]")
_PHRASE = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that stand side by side. `begins`: the last may go on ("refund" finds "refunds")."""

    words: tuple[str, ...]
    begins: bool = False


@dataclass(frozen=True, slots=True)
class WordQuery:
    """A text has all of `wanted` and none of `unwanted`."""

    wanted: tuple[Phrase, ...] = ()
    unwanted: tuple[Phrase, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.wanted or self.unwanted)


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, folded: at most MOST_WORDS of them."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return [word[:MOST_LETTERS] for word in _WORD.findall(text.casefold())[:MOST_WORDS]]


def word_query(text: str) -> WordQuery:
    """Read what a person typed: words are all wanted and found by their beginning, "quoted ones" as they stand,
    -those not at all. What holds no letter says nothing."""
    wanted: list[Phrase] = []
    unwanted: list[Phrase] = []
    for minus, quoted, bare in _PHRASE.findall(text):
        words = tuple(words_of(quoted or bare))
        if words:
            begins = not quoted and not _IS_ALONE.match(words[-1])
            (unwanted if minus else wanted).append(Phrase(words, begins))
    return WordQuery(tuple(wanted[:MOST_PHRASES]), tuple(unwanted[:MOST_PHRASES]))


def sqlite_match(phrases: Iterable[Phrase], joined: str = "AND") -> str:
    """Return the phrases in the words of FTS5. Words are letters and digits alone, so nothing needs escaping."""
    return f" {joined} ".join(f'"{" ".join(phrase.words)}"{" *" if phrase.begins else ""}' for phrase in phrases)


def postgresql_match(phrases: Iterable[Phrase], joined: str = "&") -> str:
    """Return the phrases as a tsquery."""
    parts = []
    for phrase in phrases:
        words = [f"'{word}'" for word in phrase.words]
        parts.append("(" + " <-> ".join(words) + (":*" if phrase.begins else "") + ")")
    return f" {joined} ".join(parts)


def sqlite_document(words: Iterable[str]) -> str:
    """Return words as FTS5 takes them, whose tokenizer then only cuts at spaces."""
    return " ".join(words)


def postgresql_document(words: Iterable[str]) -> str:
    """Return words as a tsvector is written down, each with its places."""
    places: dict[str, list[str]] = {}
    for place, word in enumerate(words, start=1):
        places.setdefault(word, []).append(str(place))
    # A tsvector keeps 255 places of a word.
    return " ".join(f"'{word}':{','.join(at[:255])}" for word, at in places.items())
