"""How alike two texts are in their words: BLEU and ROUGE-L, as measures of drift. Pure functions.

BLEU (Papineni et al. 2002, equation 3) of a corpus: exp(min(0, 1 − r/c) + Σₙ ¼ ln pₙ), n = 1 … 4, with the counts
pooled and 1 added to both counts of n > 1 (Lin and Och 2004), since one reply seldom shares four words in a row with
another. ROUGE-L (Lin 2004): F1 of the longest common subsequence of words, mean over pairs. Both in [0, 1]; 1 is the
same text. Two replies drawn from one policy share little, so the figures say something only beside that policy's own.
"""

import math
from collections import Counter
from collections.abc import Sequence

from trainer.gate_texts import words

_ORDERS = 4


def bleu(texts: Sequence[str], references: Sequence[str]) -> float | None:
    """BLEU of texts against one reference each; None when either side has no words."""
    length, reference_length = 0, 0
    hits, totals = [0] * _ORDERS, [0] * _ORDERS
    for text, reference in zip(texts, references, strict=True):
        said, wanted = words(text), words(reference)
        length, reference_length = length + len(said), reference_length + len(wanted)
        for order in range(_ORDERS):
            mine, theirs = _grams(said, order + 1), _grams(wanted, order + 1)
            hits[order] += sum((mine & theirs).values())
            totals[order] += sum(mine.values())
    if not length or not reference_length or not hits[0]:
        return None if not length or not reference_length else 0.0
    smoothed = [(hits[0], totals[0])] + [(hit + 1, total + 1) for hit, total in zip(hits[1:], totals[1:], strict=True)]
    precision = sum(math.log(hit / total) for hit, total in smoothed) / _ORDERS
    return math.exp(min(0.0, 1 - reference_length / length) + precision)


def rouge_l(texts: Sequence[str], references: Sequence[str]) -> float | None:
    """Mean ROUGE-L of texts against one reference each; None without texts."""
    found = [_rouge_l(words(text), words(reference)) for text, reference in zip(texts, references, strict=True)]
    return sum(found) / len(found) if found else None


def _rouge_l(said: list[str], wanted: list[str]) -> float:
    if not said or not wanted:
        return 1.0 if said == wanted else 0.0
    longest = _common(said, wanted)
    return 2 * longest / (len(said) + len(wanted))


def _common(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, other in enumerate(second, 1):
            kept = row[place]
            row[place] = before + 1 if word == other else max(row[place], row[place - 1])
            before = kept
    return row[-1]


def _grams(found: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(found[start : start + order]) for start in range(len(found) - order + 1))
