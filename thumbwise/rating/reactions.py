"""Reactions of a platform's own as thumbs: which emoji say yes, which say no."""

from collections.abc import Iterable

from thumbwise.client.calls import Thumb

UP = frozenset(["👍", "❤", "🔥", "👏", "🎉", "🤩", "💯", "🏆", "❤\u200d🔥", "👌", "🥰", "😍"])
DOWN = frozenset(["👎", "💩", "🤮", "🤬", "😡"])
_SKIN_TONES = dict.fromkeys([0xFE0F, *range(0x1F3FB, 0x1F400)])
"""What an emoji may carry without meaning something else: the sign for "as a picture", and five tones of skin."""


def thumb_of_emojis(emojis: Iterable[str]) -> Thumb | None:
    """Return the thumb that one person's reactions to a reply amount to; None for none, and for both at once."""
    plain = {emoji.translate(_SKIN_TONES) for emoji in emojis}
    up, down = bool(plain & UP), bool(plain & DOWN)
    return None if up == down else "up" if up else "down"
