"""What the gate reads off reply texts: words, repeats, openings, and phrases that are new. Pure functions of texts."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trainer.gate_checks import Check
from trainer.settings import GateSettings

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SHORT_WORDS = 3
_MEASURABLE_WORDS = 6
"""Under this, one word decides a ratio of word pairs: such replies are left out of it (and counted as short)."""
_OPENING_WORDS = 3
_PHRASE_WORDS = (3, 4, 5)
_PHRASE_PROMPTS = 4
"""A phrase of fewer prompts than this belongs to their subject, not to the policy."""
_SHOWN_PHRASES = 5


def words(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation."""
    return _WORD.findall(text.casefold())


def is_short(text: str) -> bool:
    """Under three words, the empty reply included."""
    return len(words(text)) < _SHORT_WORDS


def repeated_share(text: str) -> float | None:
    """Share of four-word sequences that occurred earlier in the text (rep-4, Welleck et al. 2019); None under six
    words."""
    grams = list(_grams(words(text), 4))
    return None if len(grams) < _MEASURABLE_WORDS - 3 else 1 - len(set(grams)) / len(grams)


def distinct_pairs(text: str) -> float | None:
    """Distinct word pairs over all word pairs (distinct-2, Li et al. 2016); None under six words."""
    found = words(text)
    pairs = list(_grams(found, 2))
    return None if len(found) < _MEASURABLE_WORDS else len(set(pairs)) / len(pairs)


def openings(texts: Iterable[str]) -> list[tuple[str, ...]]:
    """The first three words of each text that has them."""
    return [tuple(found[:_OPENING_WORDS]) for text in texts if len(found := words(text)) >= _OPENING_WORDS]


def has_opening(texts: Sequence[str], opening: tuple[str, ...]) -> list[bool]:
    """Which texts begin with these words."""
    return [tuple(words(text)[: len(opening)]) == opening for text in texts]


def most_common_opening(texts: Sequence[str]) -> list[bool]:
    """Which texts begin with the three words that most of them begin with."""
    found = Counter(openings(texts))
    if not found:
        return [False] * len(texts)
    return has_opening(texts, min(found, key=lambda opening: (-found[opening], opening)))


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that the candidate says more often: shares of replies, and the chance of such a count by luck."""

    text: str
    candidate_share: float
    live_share: float
    chance: float
    backers: int


def new_phrases(
    candidate: Sequence[str],
    candidate_prompts: Sequence[int],
    live: Sequence[str],
    liked: Sequence[tuple[int, str]],
    settings: GateSettings,
) -> Check:
    """Has the candidate picked up a phrase that few raters asked for? Hard.

    A phrase of 3 to 5 words counts when it is in more than `max_phrase_share` of the candidate's replies, on at least
    four prompts, and more than `max_phrase_ratio` times as common as in live's. It fails the gate when so many more
    replies hold it than chance allows (Fisher's exact test, corrected for the number of phrases looked at), unless
    up-voted replies of `phrase_backers` raters hold it. liked: (rater, text) of every up-voted reply.

    Without the test for chance a candidate that merely speaks differently failed here: of hundreds of phrases some are
    in 3 replies of 128 and in none of live's by luck.
    """
    said, said_on = _spread(candidate, candidate_prompts)
    before, _ = _spread(live, [0] * len(live))
    spread = min(_PHRASE_PROMPTS, len(set(candidate_prompts)))
    common = [
        gram
        for gram, count in said.items()
        if count / len(candidate) > settings.max_phrase_share and len(said_on[gram]) >= spread
    ]
    risen = [
        gram
        for gram in common
        if said[gram] / len(candidate) > settings.max_phrase_ratio * before[gram] / max(len(live), 1)
    ]
    backers: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
    for rater, text in liked:
        for gram in set(_phrases(words(text))):
            backers[gram].add(rater)
    found = [
        Phrase(
            " ".join(gram),
            said[gram] / len(candidate),
            before[gram] / max(len(live), 1),
            luck(said[gram], len(candidate), before[gram], len(live)),
            len(backers[gram]),
        )
        for gram in risen
    ]
    allowed_chance = (1 - settings.confidence) / max(len(common), 1)
    alarming = [item for item in found if item.chance < allowed_chance and item.backers < settings.phrase_backers]
    alarming.sort(key=lambda item: (-item.candidate_share, -len(item.text), item.text))
    value = max((item.candidate_share for item in alarming), default=0.0)
    limit = settings.max_phrase_share
    if alarming:
        named = "; ".join(
            f"“{item.text}” in {item.candidate_share:.0%} of replies "
            f"(live {item.live_share:.0%}, {item.backers} raters)"
            for item in alarming[:_SHOWN_PHRASES]
        )
        return Check("new_phrases", value, None, limit, True, "fail", f"new phrases that few raters asked for: {named}")
    if len(candidate) < settings.min_replies:
        reason = f"new phrases: only {len(candidate)} of {settings.min_replies} replies to look through"
        return Check("new_phrases", None, None, limit, True, "inconclusive", reason)
    return Check("new_phrases", value, None, limit, True, "pass", f"no new phrase among {len(common)} common ones")


def luck(candidate: int, candidate_n: int, live: int, live_n: int) -> float:
    """Chance that at least `candidate` of all the replies with a phrase are the candidate's, were both policies alike
    (Fisher's exact test, one-sided)."""
    total, everyone = candidate + live, candidate_n + live_n
    ways = sum(
        math.comb(candidate_n, place) * math.comb(live_n, total - place)
        for place in range(candidate, min(total, candidate_n) + 1)
    )
    return ways / math.comb(everyone, total)


def _spread(
    texts: Sequence[str], prompts: Sequence[int]
) -> tuple[Counter[tuple[str, ...]], defaultdict[tuple[str, ...], set[int]]]:
    counts: Counter[tuple[str, ...]] = Counter()
    prompts_of: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
    for text, prompt in zip(texts, prompts, strict=True):
        for gram in set(_phrases(words(text))):
            counts[gram] += 1
            prompts_of[gram].add(prompt)
    return counts, prompts_of


def _phrases(found: list[str]) -> Iterator[tuple[str, ...]]:
    for n in _PHRASE_WORDS:
        yield from _grams(found, n)


def _grams(found: list[str], n: int) -> Iterator[tuple[str, ...]]:
    for start in range(len(found) - n + 1):
        yield tuple(found[start : start + n])
