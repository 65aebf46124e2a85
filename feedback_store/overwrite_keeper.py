"""Overwrites what erasures deleted, in a thread of its own: whoever asked to be forgotten need not wait for it.

It looks once a second whether there was an erasure that is not overwritten yet; one that was under way when the program
died is found at the next start. Anybody may ask to be erased, and to rewrite a database is work: after each time it
rests, so that a crowd of erasures costs a tenth of the disk's time at most and is overwritten together.
"""

import logging
import threading
import time

from feedback_store.erasures import not_overwritten, note_overwritten
from feedback_store.errors import StoreError
from feedback_store.store import Store

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
REST = 9.0
"""Rested for each second that it worked …"""
MOST_REST_S = 20.0
"""… and no longer than this: what is erased is gone from the files within a minute."""

GOODBYE_S = 5.0


class OverwriteKeeper:
    """Start it once a process and store; it ends with the store, or at `close`."""

    def __init__(self, store: Store, rewrite_bytes: int) -> None:
        """rewrite_bytes: see overwriting.py."""
        self._store = store
        self._rewrite_bytes = rewrite_bytes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="overwrite-keeper", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End. What is under way is waited for a moment; what is not done is done at the next start."""
        self._stop.set()
        self._thread.join(GOODBYE_S)

    def _work(self) -> None:
        rest_s = 0.0
        while not self._stop.wait(max(LOOK_EVERY_S, rest_s)) and not self._store.closed:
            begun = time.monotonic()
            try:
                self.overwrite()
            except StoreError as error:
                log.info("erased texts not overwritten yet reason=%s", error)
            except Exception:  # a thread that dies would leave every later erasure half done
                log.exception("erased texts could not be overwritten; trying again")
            rest_s = min(REST * (time.monotonic() - begun), MOST_REST_S)

    def overwrite(self) -> bool:
        """Overwrite now what waits for it, and say whether anything did. Blocks."""
        numbers = self._store.read(not_overwritten)
        if not numbers:
            return False
        if self._store.overwrite_deleted(self._rewrite_bytes):
            self._store.write(note_overwritten, numbers)
            log.info("erased texts overwritten erasures=%d newest=%d", len(numbers), numbers[-1])
        return True
