"""How fast one rater may vote: a steady rate with room for a burst, kept in memory for those who voted lately.

The generic cell rate algorithm: of each rater one number is kept, the moment at which their votes so far would have
been given at the steady rate. A vote moves it on by one interval, and one that would move it further ahead of the clock
than the burst allows is refused, with the seconds until it would not be. So nothing has to be counted in windows, and a
refused vote costs the rater nothing.

It holds off a finger that sticks, a script and a broken client. It is no defence against many names: who may vote under
any name is the proxy's and the platform's affair, and what one name's votes weigh is the trainer's. Each server counts
for itself, and forgets when it ends.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_RATERS = 100_000
"""Raters that are kept; the one whose last vote is longest ago leaves first."""


class TooManyVotes(Exception):
    """This rater votes faster than is allowed; `retry_after_s` says when the next vote would be taken."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("you vote faster than votes are counted: this one was not stored; wait a moment")
        self.retry_after_s = retry_after_s


class VoteLimit:
    """The limit of one server. Used on the event loop alone: it has no lock."""

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """per_minute: 0 refuses nobody. burst: votes that may be given at once by whoever gave none lately."""
        self._interval_s = 60.0 / per_minute if per_minute else 0.0
        self._room_s = self._interval_s * (burst - 1)
        self._clock = clock
        self._ahead: OrderedDict[str, float] = OrderedDict()

    def take(self, rater_id: str) -> None:
        """Count a vote. Raises TooManyVotes, and then does not count it."""
        if not self._interval_s:
            return
        present = self._clock()
        at = max(self._ahead.get(rater_id, present), present)
        if at - present > self._room_s:
            raise TooManyVotes(at - present - self._room_s)
        self._ahead[rater_id] = at + self._interval_s
        self._ahead.move_to_end(rater_id)
        if len(self._ahead) > MOST_RATERS:
            self._ahead.popitem(last=False)
