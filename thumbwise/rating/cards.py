"""What a person sees below a reply, as values without a platform: rows of keys, each a signed press or a link.

A platform's module turns a Card into its own keyboard. In a chat with one person a key shows and does what is true for
that person: the thumb they gave is ticked, and pressing it again takes it back. A keyboard that a group shares cannot
know who looks, so it shows counts, and pressing twice takes one's own vote back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from thumbwise.rating.book import Tally
from thumbwise.rating.buttons import Act, Button
from thumbwise.rating.texts import Texts

Style = Literal["plain", "good", "bad"]
DOWN_FROM = 100
"""`Button.detail` of a reason: below, a place in REASONS_UP; from here on, in REASONS_DOWN."""
REASONS_UP = ("correct", "clear", "complete", "good-tone")
REASONS_DOWN = ("wrong", "unclear", "too-long", "off-topic", "unsafe")
"""What is stored, alike in every language. Only ever append: buttons name them by place."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its label and the press behind it, or an address that it opens."""

    label: str
    button: Button | None = None
    url: str | None = None
    style: Style = "plain"


@dataclass(frozen=True, slots=True)
class Card:
    """Rows of keys, and the text above them where they have one of their own."""

    rows: tuple[tuple[Key, ...], ...]
    text: str = ""


def rating_card(
    texts: Texts,
    reply_id: str,
    *,
    owner: int | None,
    own_thumb: str | None = None,
    tally: Tally | None = None,
    reasons: bool = False,
    form: bool = False,
    regenerate: bool = True,
    correct: bool = True,
) -> Card:
    """The keys below a reply. `tally`: the keyboard is shared by a group and shows counts; else `own_thumb` is ticked.

    `reasons`: the row that asks why, after a thumb; with `form` one key, on platforms that have forms. `owner`: who
    may regenerate; in a chat of two also who may vote.
    """
    voter = owner if tally is None else None
    rows: list[tuple[Key, ...]] = [
        (_thumb(reply_id, "up", own_thumb, tally, voter), _thumb(reply_id, "down", own_thumb, tally, voter))
    ]
    if reasons and tally is None and own_thumb is not None:
        rows += _rows_of(reason_keys(texts, reply_id, own_thumb, voter), 3) if not form else []
        rows[0] += (why_key(texts, reply_id, own_thumb, voter),) if form else ()
    more: list[Key] = []
    if regenerate:
        more.append(Key("🔄 " + texts.say("Again"), Button(Act.REGENERATE, reply_id, owner=owner)))
    if correct:
        more.append(Key("✏️ " + texts.say("Better answer"), Button(Act.CORRECT, reply_id, owner=voter)))
    return Card((*rows, tuple(more)) if more else tuple(rows))


def reason_keys(texts: Texts, reply_id: str, thumb: str, voter: int | None) -> list[Key]:
    """A key for each reason that fits a thumb."""
    names = reason_names(texts)
    slugs, first = (REASONS_UP, 0) if thumb == "up" else (REASONS_DOWN, DOWN_FROM)
    return [
        Key(names[slug], Button(Act.REASON, reply_id, first + place, owner=voter)) for place, slug in enumerate(slugs)
    ]


def why_key(texts: Texts, reply_id: str, thumb: str, voter: int | None) -> Key:
    """The key that opens a form with the reasons for a thumb."""
    return Key("💬 " + texts.say("Why?"), Button(Act.WHY, reply_id, int(thumb == "down"), owner=voter))


def reason_of(button: Button) -> tuple[Literal["up", "down"], str] | None:
    """Return the thumb and the stored word that a reason's key stands for; None if there is no such reason."""
    down = button.detail >= DOWN_FROM
    slugs = REASONS_DOWN if down else REASONS_UP
    place = button.detail - DOWN_FROM if down else button.detail
    return ("down" if down else "up", slugs[place]) if place < len(slugs) else None


def reason_names(texts: Texts) -> dict[str, str]:
    """What each reason is called."""
    return {
        "correct": texts.say("Correct"),
        "clear": texts.say("Clear"),
        "complete": texts.say("Complete"),
        "good-tone": texts.say("Good tone"),
        "wrong": texts.say("Wrong"),
        "unclear": texts.say("Unclear"),
        "too-long": texts.say("Too long"),
        "off-topic": texts.say("Off topic"),
        "unsafe": texts.say("Harmful"),
    }


def comparison_card(
    texts: Texts, comparison_id: str, count: int, *, owner: int | None, verdict: str | None = None
) -> Card:
    """The keys below two or more replies to choose from; `verdict` (a place, "tie" or "both_bad") is ticked."""

    def key(label: str, act: Act, name: str, detail: int = 0, style: Style = "plain") -> Key:
        chosen = verdict == name
        act, detail = (Act.VERDICT_NONE, 0) if chosen else (act, detail)
        return Key(("✅ " if chosen else "") + label, Button(act, comparison_id, detail, owner=owner), style=style)

    choices = tuple(
        key(texts.say("{letter} is better", letter=letter_of(place)), Act.CHOOSE, str(place), place, "good")
        for place in range(count)
    )
    both_bad = texts.say("Both bad") if count == 2 else texts.say("All bad")
    others = (key(texts.say("Equally good"), Act.TIE, "tie"), key(both_bad, Act.BOTH_BAD, "both_bad", style="bad"))
    question = texts.say("Which answer is better?") if verdict is None else texts.say("Thank you. You can change it.")
    return Card((choices, others), question)


def consent_card(texts: Texts, *, owner: int | None, held_back: bool = False) -> Card:
    """The question whether a person's words may be kept and learnt from. `held_back`: see `consent_text`."""
    return Card(
        (
            (
                Key(texts.say("Yes, learn from my chats"), Button(Act.CONSENT_YES, owner=owner), style="good"),
                Key(texts.say("No"), Button(Act.CONSENT_NO, owner=owner)),
            ),
        ),
        consent_text(texts, held_back=held_back),
    )


def forget_card(texts: Texts, *, owner: int) -> Card:
    """The question before everything that is known of a person is erased."""
    return confirm_card(
        texts,
        texts.say(
            "This erases your chats, votes and corrections here and your consent. Versions of the model that were "
            "trained before are not unlearnt, but the next one will not see them. Go ahead?"
        ),
        texts.say("Erase everything"),
        Button(Act.FORGET, owner=owner, once=True),
    )


def confirm_card(texts: Texts, question: str, yes: str, button: Button) -> Card:
    """A question with one key that does it and one that does not."""
    dismiss = Button(Act.DISMISS, owner=button.owner)
    return Card(((Key(yes, button, style="bad"), Key(texts.say("Cancel"), dismiss)),), question)


def consent_text(texts: Texts, *, held_back: bool = False) -> str:
    """The question of consent, in full. Raise `privacy.consent_version` when what it says changes.

    `held_back`: the platform forbids training on texts, and the operator has recorded no permission of it.
    """
    question = texts.say(
        "May I keep our chats and learn from them? If you agree, your messages, my replies and your votes are stored "
        "and may be used to train the model behind this bot. If not, I answer all the same and store no text; votes "
        "are counted without words. You can change your mind at any time: /consent. More: /privacy"
    )
    return f"{question}\n\n{held_back_text(texts)}" if held_back else question


def held_back_text(texts: Texts) -> str:
    """What is added where texts are kept out of training."""
    return texts.say("For now no model is trained on texts from here, whatever you answer; votes count all the same.")


def privacy_text(texts: Texts, *, held_back: bool = False) -> str:
    """What is kept of a person, and what they can do about it. `held_back`: see `consent_text`."""
    told = texts.say(
        "What is kept: you are known by a keyed hash, not by your name. Without your consent no text is stored, only "
        "that a reply was given and which thumb it got. With it, your messages, my replies and your corrections are "
        "stored and may be used for training.\n\n/consent – change your answer\n/export – get what is stored of you\n"
        "/forget – erase it"
    )
    return f"{told}\n\n{held_back_text(texts)}" if held_back else told


def letter_of(place: int) -> str:
    """A, B, C … for the replies of a comparison."""
    return chr(ord("A") + place)


def _thumb(reply_id: str, thumb: Literal["up", "down"], own: str | None, tally: Tally | None, voter: int | None) -> Key:
    sign, act = ("👍", Act.THUMB_UP) if thumb == "up" else ("👎", Act.THUMB_DOWN)
    if tally is not None:
        count = tally.of(thumb)
        return Key(f"{sign} {count}" if count else sign, Button(act, reply_id, owner=voter))
    chosen = own == thumb
    return Key(f"✅ {sign}" if chosen else sign, Button(Act.THUMB_NONE if chosen else act, reply_id, owner=voter))


def _rows_of(keys: Sequence[Key], width: int) -> list[tuple[Key, ...]]:
    return [tuple(keys[start : start + width]) for start in range(0, len(keys), width)]
