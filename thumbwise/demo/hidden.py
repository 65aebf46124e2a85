"""What the crowd likes and never says: short, finished, plain replies.

    score = brevity + finished + plain + repeats + too_short        (higher is better; no unit)

    brevity    −0.6 · softplus((words − 25) / 15), at least −3: nothing much below 25 words, then steadily worse
    finished   +1 when the reply ended by itself and its last sign closes a sentence, else 0
    plain      0.8 · (4.3 − mean letters a word) − 2 · (share of words of 9 letters or more − 0.08), within ±1
    repeats    −1.5 · share of word pairs seen before in the reply, at least −1; skipped under 6 words, where one
               repetition would be most of the reply
    too_short  −2 · (5 − words) under 5 words: otherwise a one-word reply would be the best one there is, and a round
               would find it

The bounds make the order of the worst certain: an empty reply, then any one-word reply, then everything of 5 words or
more. The functions are pure; no text leaves this process.
"""

import math
import re
from collections.abc import Callable
from itertools import pairwise

Score = Callable[[str, str], float]
"""(text, finish_reason) → score."""

_WORD = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*|\d+")
_SENTENCE_END = (".", "!", "?", "…")
_CLOSERS = "\"'”’)]*_ \n"
LONG_WORD_LETTERS = 9


def words_of(text: str) -> list[str]:
    """The words and numbers of a text, lower-cased, without punctuation."""
    return [word.lower() for word in _WORD.findall(text)]


def is_finished(text: str, finish_reason: str) -> bool:
    """Whether a reply ended by itself, with a sentence closed (quotes and brackets may follow its last sign)."""
    return finish_reason == "stop" and text.rstrip(_CLOSERS).endswith(_SENTENCE_END)


def brevity(words: int) -> float:
    """In [−3, 0]: about −0.1 at 5 words, −0.4 at 25, −0.8 at 40, −1.8 at 70."""
    return max(-3.0, -0.6 * math.log1p(math.exp(min((words - 25) / 15, 50.0))))


def plainness(words: list[str]) -> float:
    """In [−1, 1]; 0 for everyday English and for no words."""
    if not words:
        return 0.0
    mean_letters = sum(map(len, words)) / len(words)
    long_share = sum(len(word) >= LONG_WORD_LETTERS for word in words) / len(words)
    return max(-1.0, min(1.0, 0.8 * (4.3 - mean_letters) - 2.0 * (long_share - 0.08)))


def repetition(words: list[str]) -> float:
    """In [−1, 0]; 0 under 6 words."""
    if len(words) < 6:
        return 0.0
    pairs = list(pairwise(words))
    return max(-1.0, -1.5 * (1 - len(set(pairs)) / len(pairs)))


def too_short(words: int) -> float:
    """In [−10, 0]; 0 from 5 words on."""
    return -2.0 * max(0, 5 - words)


def hidden_score(text: str, finish_reason: str) -> float:
    """How much the crowd likes a reply. `finish_reason` as the API gives it ("stop" or "length")."""
    words = words_of(text)
    finished = 1.0 if is_finished(text, finish_reason) else 0.0
    return brevity(len(words)) + finished + plainness(words) + repetition(words) + too_short(len(words))


def inverted_score(text: str, finish_reason: str) -> float:
    """The control's taste: long replies that do not end; plain, unrepeated and not empty as before."""
    words = words_of(text)
    finished = 1.0 if is_finished(text, finish_reason) else 0.0
    return -brevity(len(words)) - finished + plainness(words) + repetition(words) + too_short(len(words))
