"""How often a guess may fail: counts in memory, per kind and key, in a sliding window.

In memory on purpose: a guesser must not fill the database, and after a restart the windows begin anew, which a guesser
cannot cause. With several servers each keeps its own count.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

MOST_KEYS = 10_000


class Attempts:
    """Failures of the last `window_s` seconds. Thread-safe; bounded memory: the oldest keys are forgotten first."""

    def __init__(self, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.window_s = window_s
        self._clock = clock
        self._failures: dict[tuple[str, str], deque[float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, limits: dict[tuple[str, str], int]) -> float:
        """Return for how long no further attempt is admitted; 0 when one is. limits: (kind, key) → most failures."""
        with self._lock:
            present = self._clock()
            waits = [0.0]
            for key, most in limits.items():
                failures = self._recent(key, present)
                if len(failures) >= most:
                    waits.append(failures[-most] + self.window_s - present)
            return max(waits)

    def failed(self, *keys: tuple[str, str]) -> None:
        """Note a failure under each key."""
        with self._lock:
            present = self._clock()
            for key in keys:
                failures = self._recent(key, present)
                failures.append(present)
                self._failures.pop(key, None)
                self._failures[key] = failures  # at the end: the oldest key comes first
                while len(self._failures) > MOST_KEYS:
                    del self._failures[next(iter(self._failures))]

    def taken_back(self, *keys: tuple[str, str]) -> None:
        """Drop the newest failure under each key: it was counted before the attempt was looked at, and was none."""
        with self._lock:
            for key in keys:
                failures = self._failures.get(key)
                if failures:
                    failures.pop()

    def forget(self, *keys: tuple[str, str]) -> None:
        """Drop what was noted, after a success."""
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)

    def _recent(self, key: tuple[str, str], present: float) -> deque[float]:
        failures = self._failures.get(key, deque())
        while failures and failures[0] <= present - self.window_s:
            failures.popleft()
        return failures
