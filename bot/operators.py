"""In which language operators are told what happens.

A platform tells a bot somebody's language only together with what they write or press, and a notice comes unasked. So
the language that an operator's chat was last used in is noted, under the mark of the chat, and `/forget` drops it like
everything else that bears that mark. A language in the settings holds for every chat and nothing is noted then.
"""

import re
from collections.abc import Callable

from feedback_store import bot_file
from feedback_store.store import Store
from thumbwise.rating.texts import Texts, texts_for


class OperatorLanguages:
    """The languages of the chats of operators. `mark`: a chat's keyed mark; `setting`: one language for all of them."""

    def __init__(self, file: Store, mark: Callable[[int], str], setting: str | None = None) -> None:
        self._file, self._mark, self._setting = file, mark, setting

    async def saw(self, chat: int, language: str | None) -> None:
        """Note the language that an operator's app is in, as the platform names it."""
        if self._setting is not None or not language:
            return
        await self._file.write_async(bot_file.set_note, self._note(chat), language[:32])

    async def texts(self, chat: int, otherwise: str | None = None) -> Texts:
        """Return the texts for a chat; in the language `otherwise`, or English, where nobody has said anything yet."""
        if self._setting is not None:
            return texts_for(self._setting)
        return texts_for(await self._file.write_async(bot_file.note_of, self._note(chat)) or otherwise)

    def _note(self, chat: int) -> str:
        return f"language {self._mark(chat)}"


def say(text: str) -> str:
    """Mark a text for the catalogues (scripts/catalogues.py) that is looked up elsewhere."""
    return text


REASONS = (
    say("round {number} passed its gate"),
    say("version {version} is live"),
    say("version {version} passed its gate and is live"),
    say("version {version} passed its gate and waits for an admin"),
    say("version {version} passed its gate and is tried on {share} of the conversations"),
)
"""What the trainer gives as its reason when all went well. Other reasons are an operator's own words, or say what went
wrong in details that no catalogue foresees: they stay as they are."""


def reason_in(texts: Texts, reason: str) -> str:
    """Return a reason of the server in the reader's language, where it is one that we know."""
    for known in REASONS:
        form = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\S+)", re.escape(known))
        if found := re.fullmatch(form, reason):
            return texts.say(known, **found.groupdict())
    return reason


def state_in(texts: Texts, state: str) -> str:
    """Return the state of a round or version in the reader's language."""
    words = {
        "requested": texts.say("requested"),
        "selecting": texts.say("selecting"),
        "training": texts.say("training"),
        "gating": texts.say("gating"),
        "published": texts.say("published"),
        "rejected": texts.say("rejected"),
        "failed": texts.say("failed"),
        "cancelled": texts.say("cancelled"),
        "candidate": texts.say("candidate"),
        "canary": texts.say("canary"),
        "live": texts.say("live"),
        "retired": texts.say("retired"),
    }
    return words.get(state, state)
