"""What a bot remembers of the messages it showed: which reply each was, and who chose what. Never a text.

Votes belong to the server; this is only what a platform does not give back: a reaction names a message and not its
reply, a keyboard that a whole group presses does not say what one member had chosen, and whoever presses twice wants to
undo. People and messages are known by keyed marks alone, so a book that falls into strange hands names nobody.

`MemoryBook` serves a plug-in in a host's process; the bots that we run keep theirs in a file
(`feedback_store.bot_file`), so that it outlives a restart.
"""

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal, Protocol

ShownKind = Literal["reply", "comparison", "correction", "card"]
"""correction: our question for a better answer. card: any other message of ours with keys."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a message of the bot stands for. `target`: the reply's id, or the comparison's."""

    kind: ShownKind
    target: str
    owner: str
    """Mark of the person it was for."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How the choices on one target stand."""

    counts: tuple[tuple[str, int], ...] = ()

    def of(self, choice: str) -> int:
        """How many people chose this."""
        return dict(self.counts).get(choice, 0)


class Marks:
    """Keyed marks of people and messages: 128 bits of HMAC-SHA256, for one bot."""

    def __init__(self, secret: bytes | str, scope: str) -> None:
        raw = secret.encode() if isinstance(secret, str) else secret
        self._key = hmac.new(raw, b"thumbwise marks\x00" + scope.encode(), hashlib.sha256).digest()

    def person(self, user: int | str) -> str:
        """Return the mark of a person."""
        return self._mark("person", str(user))

    def message(self, chat: int | str, message: int | str) -> str:
        """Return the mark of a message. Never of message 0: that is an ephemeral one's number, and all share it."""
        if message in (0, "0"):
            raise ValueError("message is 0, wanted a message's own number: ephemeral messages have none")
        return self._mark("message", str(chat), str(message))

    def _mark(self, *parts: str) -> str:
        return hmac.new(self._key, "\x00".join(parts).encode(), hashlib.sha256).hexdigest()[:32]


class ReplyBook(Protocol):
    """Where the marks are kept. Every method may be called again with the same values and then changes nothing."""

    async def show(self, message: str, shown: Shown) -> None:
        """Note what the message with this mark stands for."""

    async def shown(self, message: str) -> Shown | None:
        """Return what a message stands for; None where it is not ours or was forgotten."""

    async def choose(self, target: str, person: str, choice: str | None, event: str, *, toggle: bool) -> str | None:
        """Note what a person chose on a target and return it. With `toggle` the choice they have is taken back.

        The same `event` again returns what it brought about the first time: an undo is not undone by a repeat.
        """

    async def choice(self, target: str, person: str) -> str | None:
        """Return what a person has chosen on a target."""

    async def tally(self, target: str) -> Tally:
        """Count the choices on a target."""

    async def first_time(self, note: str) -> bool:
        """Say whether this is the first time that this note is made: for what is said or asked only once."""

    async def forget(self, person: str) -> None:
        """Drop everything that bears a person's mark."""


class MemoryBook:
    """A book in memory, the oldest entries dropped first. It satisfies `ReplyBook`."""

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._shown: OrderedDict[str, Shown] = OrderedDict()
        self._choices: OrderedDict[str, dict[str, tuple[str | None, str]]] = OrderedDict()
        self._notes: OrderedDict[str, None] = OrderedDict()

    async def show(self, message: str, shown: Shown) -> None:
        self._shown[message] = shown
        _trim(self._shown, self._most)

    async def shown(self, message: str) -> Shown | None:
        return self._shown.get(message)

    async def choose(self, target: str, person: str, choice: str | None, event: str, *, toggle: bool) -> str | None:
        of_target = self._choices.setdefault(target, {})
        present, last_event = of_target.get(person, (None, ""))
        if event and event == last_event:
            return present
        chosen = None if toggle and present == choice else choice
        of_target[person] = (chosen, event)
        _trim(self._choices, self._most)
        return chosen

    async def choice(self, target: str, person: str) -> str | None:
        return self._choices.get(target, {}).get(person, (None, ""))[0]

    async def tally(self, target: str) -> Tally:
        counts: dict[str, int] = {}
        for choice, _ in self._choices.get(target, {}).values():
            if choice is not None:
                counts[choice] = counts.get(choice, 0) + 1
        return Tally(tuple(sorted(counts.items())))

    async def first_time(self, note: str) -> bool:
        if note in self._notes:
            return False
        self._notes[note] = None
        _trim(self._notes, self._most)
        return True

    async def forget(self, person: str) -> None:
        self._shown = OrderedDict((mark, shown) for mark, shown in self._shown.items() if shown.owner != person)
        for of_target in self._choices.values():
            of_target.pop(person, None)
        for note in [note for note in self._notes if person in note]:
            del self._notes[note]


def _trim(entries: OrderedDict[str, Any], most: int) -> None:
    while len(entries) > most:
        entries.popitem(last=False)
