"""Who said what so far, in memory: a bot may not keep people's words on disk, and after a restart a chat begins anew.

One conversation a person and a place (chat, thread): in a group each member has their own with the bot, so that
nobody's words are sent to the model, or kept, as part of somebody else's.
"""

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from thumbwise.rating.plain_text import clean

MOST_CONVERSATIONS = 5_000
MOST_MESSAGES = 40
MOST_CHARACTERS = 16_000
"""Of one conversation; the oldest turns go first. A model's own window may be smaller: see `shorten`."""
Place = tuple[str, ...]
"""What tells conversations apart: chat, thread, person."""


@dataclass(slots=True)
class Conversation:
    """The messages between one person and the bot at one place, and the server's id of it."""

    conversation_id: str
    messages: list[dict[str, str]] = field(default_factory=list)
    last_reply_id: str | None = None
    """The reply that the last message is; only that one may be drawn again."""

    def prompt(self, text: str) -> list[dict[str, str]]:
        """Return the messages so far and a new one of the person."""
        return [*self.messages, {"role": "user", "content": text}]

    def add_turn(self, prompt: Sequence[dict[str, str]], reply: str, reply_id: str | None) -> None:
        """Note a reply to a prompt; a prompt that was sent before replaces what followed it (drawn again).

        A model may write what no request may hold (a NUL, half a character): it is cleaned before it is sent back.
        """
        self.messages = [*prompt, {"role": "assistant", "content": clean(reply)}]
        self.last_reply_id = reply_id
        self._keep_within_limits()

    def prompt_of_last_reply(self) -> list[dict[str, str]] | None:
        """Return what the last reply answered; None where nothing was said."""
        if len(self.messages) < 2 or self.messages[-1]["role"] != "assistant":
            return None
        return self.messages[:-1]

    def replace_last_reply(self, reply: str, reply_id: str) -> None:
        """Go on from another reply to the same prompt: the one that was chosen."""
        if self.messages and self.messages[-1]["role"] == "assistant":
            self.messages[-1] = {"role": "assistant", "content": clean(reply)}
            self.last_reply_id = reply_id

    def shorten(self) -> bool:
        """Drop the older half. False when there is nothing to drop: a single message is too long by itself."""
        if len(self.messages) < 2:
            return False
        keep = self.messages[len(self.messages) // 2 :]
        while keep and keep[0]["role"] != "user":
            keep = keep[1:]
        self.messages = keep
        return True

    def _keep_within_limits(self) -> None:
        while len(self.messages) > 2 and (
            len(self.messages) > MOST_MESSAGES
            or sum(len(message["content"]) for message in self.messages) > MOST_CHARACTERS
        ):
            self.messages = self.messages[2:]


class Conversations:
    """All conversations of a bot; those used least lately are forgotten first."""

    def __init__(self, most: int = MOST_CONVERSATIONS) -> None:
        self._most = most
        self._of: OrderedDict[Place, Conversation] = OrderedDict()

    def at(self, place: Place) -> Conversation:
        """Return the conversation at a place; a new one where there is none."""
        found = self._of.get(place)
        if found is None:
            found = self._of[place] = Conversation(new_conversation_id())
        self._of.move_to_end(place)
        while len(self._of) > self._most:
            self._of.popitem(last=False)
        return found

    def begin(self, place: Place) -> None:
        """Let the next message at a place begin a new conversation."""
        self._of.pop(place, None)

    def forget(self, person: str) -> None:
        """Drop every conversation of a person, who is the last part of its place."""
        for place in [place for place in self._of if place[-1] == person]:
            del self._of[place]


def new_conversation_id() -> str:
    """Return an id that cannot be guessed."""
    return "b-" + secrets.token_hex(12)
