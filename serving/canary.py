"""Which conversations the canary answers: a sticky share of them, by hash, alike on every server.

    u(id) = SHA-256(version, NUL, id) / 2^256 in [0, 1);  the canary answers when u < share

So a conversation stays on its side for as long as the canary runs, a greater share keeps those that were there
already, and the next canary takes another part of the conversations. Nothing is stored: a restart decides alike.

Whether a canary is any good is not decided here. Its replies are stamped with their own version, its comparisons pit
it against the live one, and `feedback_store.versions` has the three ways to end it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

MOST_TRIES = 5_000
"""About 15 ms. Only a share below 1 in 1,000 may need more."""


@dataclass(frozen=True, slots=True)
class CanaryShare:
    """The version that is the canary, and its share of the conversations in [0, 1)."""

    version: int
    share: float

    def answers(self, conversation_id: str) -> bool:
        """Say whether this conversation is the canary's."""
        digest = hashlib.sha256(f"{self.version}\0{conversation_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64

    def name_conversation(self, rater_id: str, new_id: Callable[[], str]) -> str:
        """Name a conversation that came without an id so that it falls where its rater does.

        A rater who never sends ids stays on one side that way, and so does one whose next turn sends this id back.
        """
        side = self.answers(rater_id)
        for _ in range(MOST_TRIES):
            conversation_id = new_id()
            if self.answers(conversation_id) == side:
                break
        return conversation_id

    def versions(self, conversation_id: str, count: int, compared: bool) -> tuple[int | None, ...]:
        """Return the version of each of `count` candidates; None is the live one.

        Compared candidates are of both, in turn: the first drawn is the live version's. Their order is shuffled later.
        """
        if compared:
            return tuple(self.version if place % 2 else None for place in range(count))
        return (self.version if self.answers(conversation_id) else None,) * count
