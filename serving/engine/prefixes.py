"""Which tokens each row of the cache holds, so that a prompt that begins like one of them need not be read again.

Rows belong to one generation, so a prefix is never reused under other weights. A row keeps its contents when its reply
ends, until another reply takes the row: the next turn of a conversation finds its own past there, candidates of one
prompt copy it from the first, and a system prompt is read once however many conversations begin with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

WORTH_WAITING = 16
"""Tokens that a prompt still being read must hold in common beyond what is stored already, before another waits for it
instead of reading them itself: fewer cost less than a step."""


@dataclass(slots=True)
class _CacheRow:
    token_ids: list[int] = field(default_factory=list)
    taken: bool = False
    last_use: int = 0


class PrefixRows:
    """The rows of a cache: what they hold and which are free."""

    def __init__(self, rows: int) -> None:
        self._rows = [_CacheRow() for _ in range(rows)]
        self._clock = 0

    def stored(self, row: int) -> list[int]:
        """Token ids whose keys and values `row` holds, in order. Extend it after they have been run."""
        return self._rows[row].token_ids

    def best_match(self, prompt: Sequence[int]) -> tuple[int, int]:
        """Return (row, tokens) of the longest stored prefix of `prompt`, at most all but its last token: that one must
        be run for the logits after it. (0, 0) when nothing matches."""
        best = (0, 0)
        for place, row in enumerate(self._rows):
            if not row.token_ids or row.token_ids[0] != prompt[0]:
                continue
            tokens = min(common_prefix(row.token_ids, prompt), len(prompt) - 1)
            if tokens > best[1]:
                best = (place, tokens)
        return best

    def take(self, prompt: Sequence[int]) -> tuple[int, int, int]:
        """Take a free row for `prompt`; return (row, source row, tokens to keep).

        Where source and row differ, the caller copies that many tokens. A free row is taken over where most of what it
        holds is wanted; otherwise it stays for its conversation and the one unused for longest is overwritten. Raises
        LookupError when no row is free.
        """
        source, tokens = self.best_match(prompt)
        held = self._rows[source]
        if tokens and not held.taken and 2 * tokens >= len(held.token_ids):
            row = source
        else:
            free = [place for place, candidate in enumerate(self._rows) if not candidate.taken]
            if not free:
                raise LookupError("every row of the cache is taken")
            row = min(free, key=lambda place: (bool(self._rows[place].token_ids), self._rows[place].last_use, place))
        self._rows[row].token_ids = list(prompt[:tokens])
        self._rows[row].taken = True
        return row, source, tokens

    def release(self, row: int) -> None:
        """The reply of `row` has ended; its contents stay until the row is taken again."""
        self._clock += 1
        self._rows[row].taken = False
        self._rows[row].last_use = self._clock

    def forget(self) -> None:
        """Nothing is stored and nothing taken: after a step that failed halfway."""
        self._rows = [_CacheRow() for _ in self._rows]


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading items two lists share."""
    low, high = 0, min(len(first), len(second))
    while low < high:  # by halves, since comparing slices is much quicker than comparing items one by one
        middle = (low + high + 1) // 2
        if list(first[low:middle]) == list(second[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low
