"""Keeps the inbox up in a thread of its own, so that neither a vote nor a page waits for it.

It looks once a second, and at once when a page asks. Each write takes up about as much as STEP_S allows (a reply with
many acts costs more than one with few, so what a step may hold follows what the last one took), and votes come first:
while others write, the keeper rests between its steps, and has at most a fifth of the writer's time. Any number of
programs may keep one inbox: who finds it locked comes back later.
"""

import logging
import threading
import time

from feedback_store.errors import StoreError
from feedback_store.inbox import catch_up, has_news
from feedback_store.store import Store

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
STEP_S = 0.04
"""What one write should take: a vote behind it waits as long."""
FEWEST, MOST = 5, 1_000
"""Replies of one write."""
REST = 4.0
"""Steps rested for each that was worked while others write."""
BREATH_S = 0.01


class InboxKeeper:
    """Start it once a process and store; it ends with the store, or at `close`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._asked = self._answered = 0
        self._closed = False
        self._replies = 50
        self._thread = threading.Thread(target=self._work, name="inbox-keeper", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End, and wait for the step under way."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def refresh(self, patience_s: float) -> bool:
        """Let it look now; True when all that had come was taken up within `patience_s`. Blocks."""
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._closed or self._answered >= ticket, patience_s)

    def _work(self) -> None:
        while not self._over():
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._asked > self._answered, LOOK_EVERY_S)
                ticket = self._asked
            try:
                done = self._take_up_all()
            except StoreError as error:
                if not self._over():
                    log.info("inbox not kept up for now reason=%s", error)
                done = False
            except Exception:  # a thread that dies would leave the inbox behind for good
                log.exception("inbox could not be kept up; trying again")
                done = False
            with self._changed:
                if done:
                    self._answered = ticket
                    self._changed.notify_all()
                elif not self._closed:
                    self._changed.wait(LOOK_EVERY_S)

    def _over(self) -> bool:
        return self._closed or self._store.closed

    def _take_up_all(self) -> bool:
        """Work until there is no news; False when something stands in the way."""
        while not self._over():
            if not self._store.read(has_news):
                return True
            commits, begun = self._store.commits, time.monotonic()
            if self._store.write(catch_up, most_replies=self._replies, wait=False) == 0:
                return False
            took_s = max(time.monotonic() - begun, 1e-3)
            self._replies = max(FEWEST, min(MOST, round(self._replies * min(2.0, STEP_S / took_s))))
            time.sleep(BREATH_S)
            if self._store.commits > commits + 1:  # somebody else wrote meanwhile
                time.sleep(min(REST * took_s, LOOK_EVERY_S))
        return False
