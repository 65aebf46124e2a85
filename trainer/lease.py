"""A claimed round's lease, kept from a thread of its own for as long as its work goes on.

Selecting and publishing are calls that may take longer than a lease, so the beat cannot wait for them. What the thread
learns, that the round was cancelled or taken over, is raised where the work can stop (`check`), and once more by the
store at the next write: its fence is the proof, this is only the news.
"""

import logging
import threading

from feedback_store import rounds
from feedback_store.errors import Conflict, NotFound, StoreUnavailable
from feedback_store.records import Round
from feedback_store.store import Store

logger = logging.getLogger(__name__)

_BEATS_A_LEASE = 4


class RoundTaken(Exception):
    """The round is no longer this supervisor's: cancelled, or taken over after its lease ran out."""


class Lease:
    """Beats until `close`. A store that is away for a while is waited out: the lease may end meanwhile, which the next
    beat or write then finds."""

    def __init__(self, store: Store, claimed: Round, lease_s: float) -> None:
        self._store, self._round, self._lease_s = store, claimed, lease_s
        self._ended = threading.Event()
        self._progressed = threading.Event()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"lease-{claimed.round_id}", daemon=True)

    def start(self) -> "Lease":
        """Begin to beat."""
        self._thread.start()
        return self

    def progressed(self) -> None:
        """Say that the round got further: its attempts are counted anew with the next beat."""
        self._progressed.set()

    def check(self) -> None:
        """Raise RoundTaken when a beat was refused."""
        if self._lost is not None:
            raise RoundTaken(self._lost)

    def close(self) -> None:
        """Stop beating. What was not told yet (`progressed`) is told."""
        self._ended.set()
        self._thread.join()
        if self._progressed.is_set():
            self._beat()

    def _run(self) -> None:
        while not self._ended.wait(self._lease_s / _BEATS_A_LEASE) and self._lost is None:
            self._beat()

    def _beat(self) -> None:
        progressed = self._progressed.is_set()
        try:
            self._store.write(
                rounds.heartbeat, self._round.round_id, self._round.fence, self._lease_s, progressed=progressed
            )
        except (Conflict, NotFound) as conflict:
            self._lost = str(conflict)
        except StoreUnavailable as error:
            logger.warning("store unavailable, no heartbeat round=%d reason=%s", self._round.round_id, error)
        else:
            if progressed:
                self._progressed.clear()
