"""The two forms that people fill in: why a thumb was given, and a better answer.

A form's custom_id is signed data like a button's, and what comes back is read from the interaction itself: a form that
was open while the bot was killed and started again is understood all the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import discord

from thumbwise.rating.buttons import Act, Button, ButtonSigner
from thumbwise.rating.cards import REASONS_DOWN, REASONS_UP, reason_names
from thumbwise.rating.plain_text import clean
from thumbwise.rating.texts import Texts

MOST_REASON, MOST_ANSWER = 1_000, 4_000
"""Characters of a reason in one's own words (the server keeps 2,000), and of a text field at most."""
REASON, WORDS, ANSWER = "reason", "words", "answer"
"""The fields, as a filled-in form names them."""


def why_form(texts: Texts, button: Button, signer: ButtonSigner, channel: int, user: int) -> discord.ui.Modal:
    """Return the form that asks for the reason of a thumb: one of ours, or words of one's own."""
    names = reason_names(texts)
    slugs = REASONS_DOWN if button.detail else REASONS_UP
    options = [discord.RadioGroupOption(label=names[slug], value=slug) for slug in slugs]
    form = _form(texts.say("Why?"), Button(Act.WHY, button.target, button.detail, owner=user), signer, channel)
    form.add_item(
        discord.ui.Label(
            text=texts.say("What is it about this answer?"),
            component=discord.ui.RadioGroup(custom_id=REASON, required=False, options=options),
        )
    )
    form.add_item(
        discord.ui.Label(
            text=texts.say("In your own words"),
            description=texts.say("Kept only if you agreed that I keep your words."),
            component=discord.ui.TextInput(
                custom_id=WORDS, style=discord.TextStyle.paragraph, required=False, max_length=MOST_REASON
            ),
        )
    )
    return form


def answer_form(
    texts: Texts, button: Button, signer: ButtonSigner, channel: int, user: int, present: str | None
) -> discord.ui.Modal:
    """Return the form that takes a better answer; it begins with the present one where that is known and fits."""
    form = _form(texts.say("Better answer"), Button(Act.CORRECT, button.target, owner=user), signer, channel)
    begun = present if present is not None and len(present) <= MOST_ANSWER else None
    field: discord.ui.TextInput[Any] = discord.ui.TextInput(
        custom_id=ANSWER, style=discord.TextStyle.paragraph, default=begun, max_length=MOST_ANSWER
    )
    form.add_item(discord.ui.Label(text=texts.say("What should I have said?"), component=field))
    return form


def filled_in(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the fields of a form that was sent, by their names; what was left empty is left out."""

    def look(components: Any) -> Iterator[tuple[str, str]]:
        for component in components or ():
            if not isinstance(component, Mapping):
                continue
            name, value = component.get("custom_id"), component.get("value")
            if isinstance(name, str) and isinstance(value, str) and value.strip():
                yield name, clean(value.strip())
            inner = component.get("component")
            yield from look([inner] if inner is not None else component.get("components"))

    return dict(look(data.get("components")))


def reason_in(values: Mapping[str, str], thumb: str) -> str | None:
    """Return the reason that a filled-in form gives: the chosen one, then the words; None for an empty form."""
    known = REASONS_DOWN if thumb == "down" else REASONS_UP
    chosen = values.get(REASON)
    parts = [part for part in (chosen if chosen in known else None, values.get(WORDS)) if part]
    return ": ".join(parts) or None


def _form(title: str, button: Button, signer: ButtonSigner, channel: int) -> discord.ui.Modal:
    form = discord.ui.Modal(title=title[:45], custom_id=signer.data(button, channel), timeout=None)
    form.stop()  # discord.py would keep it in memory until it is sent, which most forms never are
    return form
