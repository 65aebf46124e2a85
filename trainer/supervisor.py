"""Runs rounds: claims a wish, selects, trains in a child process, publishes what passed its gate.

    claim ─► select and freeze ─► child: train, seal, gate ─► publish ─► promote, or try as a canary

The round's row is the truth: every write carries the fence of this supervisor's claim, so that one that slept past
its lease is refused. A round whose supervisor died is claimed again and goes on from its folder: from the last
checkpoint of its training, from the gate when its adapter is sealed, from publishing when its gate has spoken. After
a few claims without getting any further it fails: no round may loop for ever.
"""

import logging
import os
import socket
import threading

from feedback_store import rounds
from feedback_store.errors import StoreUnavailable
from trainer.context import TrainerContext
from trainer.failpoints import reach
from trainer.lease import RoundTaken
from trainer.round_run import RoundRun, tidy

logger = logging.getLogger(__name__)

_IDLE_LOOK_S = 1.0


class Supervisor:
    """Takes up rounds one after another. `start` runs it in a thread; `run_next` does one round in the caller's."""

    def __init__(self, context: TrainerContext, stop: threading.Event | None = None) -> None:
        """`stop`: the event that ends it, set by `close` or by whoever gave it."""
        self._context = context
        self._owner = f"{socket.gethostname()}-{os.getpid()}"
        self._stop = stop or threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._swept = False

    def start(self) -> None:
        """Take up rounds in a thread until `close`."""
        self._thread = threading.Thread(target=self.run, name="supervisor", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look for a round now rather than within a second."""
        self._wake.set()

    def close(self) -> None:
        """Stop; a round under way gives its lease up, and goes on from its folder at the next start."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def run(self) -> None:
        """Take up rounds until `close`."""
        while not self._stop.is_set():
            try:
                if self.run_next():
                    continue
            except StoreUnavailable as error:
                logger.warning("store unavailable, no round taken up reason=%s", error)
            except Exception:  # one round's trouble must not end the trainer; its lease brings it back
                logger.exception("a round was left where it stood")
            self._wake.wait(_IDLE_LOOK_S)
            self._wake.clear()

    def run_next(self) -> bool:
        """Claim and run one round to its end; False when none waits."""
        context = self._context
        if not self._swept:
            self._sweep()
        claimed = context.store.write(rounds.claim_round, self._owner, context.rounds.lease_s)
        if claimed is None:
            return False
        logger.info("round claimed round=%d state=%s fence=%d", claimed.round_id, claimed.state, claimed.fence)
        reach("claim")
        run = RoundRun(context, claimed, self._stop)
        try:
            run.run()
        except RoundTaken as taken:
            logger.info("round left round=%d reason=%s", claimed.round_id, taken)
        return True

    def _sweep(self) -> None:
        """Tidy the folders of ended rounds whose trainer died before it could: they hold texts of users."""
        folder = self._context.data_dir / "rounds"
        for found in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = found.name.partition(".")[0]
            if name.isdigit():
                tidy(self._context, int(name))
        self._swept = True
