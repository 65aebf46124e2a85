"""How fast one rater may vote: a bucket each, kept as one number, the time at which it would be full again.

A bucket holds ten minutes' worth, so that nobody who rates a long list meets it; a program that votes without pause
does, and its votes cost disk and an operator's time to look through. One vote moves the number on by its share of a
minute; a number that lies further ahead than the bucket is deep means that it is empty. Numbers that have passed are
as good as none and are forgotten. In memory: with several servers each counts for itself, and a restart begins anew.
"""

import time
from collections.abc import Callable

BUCKET_S = 600.0
MOST_RATERS = 50_000


class VoteRate:
    """The buckets of one server. Used from its event loop alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most_raters: int = MOST_RATERS) -> None:
        self._clock, self._most = clock, most_raters
        self._full_at: dict[str, float] = {}

    def wait_s(self, rater_id: str, per_minute: int) -> float:
        """Take a vote out of this rater's bucket and return 0, or return how long until there is one."""
        if per_minute == 0:
            return 0.0
        present = self._clock()
        full_at = max(self._full_at.get(rater_id, present), present) + 60.0 / per_minute
        if full_at - present > BUCKET_S:
            return full_at - present - BUCKET_S
        if len(self._full_at) >= self._most:
            self._forget(present)
        self._full_at[rater_id] = full_at
        return 0.0

    def _forget(self, present: float) -> None:
        """Drop the full buckets; where a crowd of new names leaves none, the fuller half of all."""
        kept = {rater_id: full_at for rater_id, full_at in self._full_at.items() if full_at > present}
        if len(kept) > self._most // 2:
            kept = dict(sorted(kept.items(), key=lambda item: item[1])[len(kept) - self._most // 2 :])
        self._full_at = kept
