"""Texts of people and models, made fit for the wire, and long ones parted for platforms that limit a message."""

import re
from collections.abc import Callable

MOST_CHARACTERS = 50_000
"""Of one message of a person; no platform lets anybody send more."""
_FENCE = re.compile(r"^(```+|~~~+)[^\n]*$", re.MULTILINE)


def clean(text: str) -> str:
    """Return a text that JSON, UTF-8 and both databases can hold: NUL and lone surrogates become U+FFFD.

    Nothing else is touched. Right-to-left and zero-width marks are how people write, and control tokens of a chat
    template are mere text to the server.
    """
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text[:MOST_CHARACTERS])


def utf16_length(text: str) -> int:
    """Count a text as Telegram does: in UTF-16 units, two for most emoji."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def split_text(text: str, most: int, measure: Callable[[str], int] = len) -> list[str]:
    """Part a text into pieces of at most `most` by `measure`, at paragraphs, lines, sentences, words, in that order.

    A fence of code that a cut goes through is closed before and opened again after it. `most` is at least 64. A text
    with nothing to see gives no pieces.
    """
    if most < 64:
        raise ValueError(f"most is {most}, wanted at least 64: a fence and some words must fit")
    pieces: list[str] = []
    rest = text.strip("\n")
    while measure(rest) > most:
        cut = _cut(rest, most - 8, measure)
        piece, rest = rest[:cut], rest[cut:].lstrip("\n")
        if fence := _open_fence(piece):
            piece, rest = f"{piece.rstrip()}\n{fence[:3]}", f"{fence}\n{rest}" if len(fence) < most // 4 else rest
        pieces.append(piece.rstrip())
    return [piece for piece in [*pieces, rest] if piece.strip()]


def _cut(text: str, most: int, measure: Callable[[str], int]) -> int:
    """Return how many characters go into the first piece: at least one."""
    low, high = 1, min(len(text), most)
    while low < high:  # the longest beginning that fits; a measure never shrinks with more text
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(text[:middle]) <= most else (low, middle - 1)
    beginning = text[:low]
    for separator in ("\n\n", "\n", ". ", "。", " "):
        if (at := beginning.rfind(separator, low // 3)) > 0:
            return at + len(separator)
    return low


def _open_fence(piece: str) -> str | None:
    """Return the line that opened the fence in which a piece ends, if it does."""
    opening: str | None = None
    for fence in _FENCE.finditer(piece):
        opening = None if opening is not None else fence[0]
    return opening
