"""A thread that looks at something again and again: the canary's judge, the deletion of old texts."""

import logging
import threading
from collections.abc import Callable

from feedback_store.errors import StoreError

logger = logging.getLogger(__name__)


class Looking:
    """Calls `look` every `every_s` seconds, first after as long, until `close`. Nothing that `look` raises ends it: a
    watch that dies watches nothing ever again, and nobody notices."""

    def __init__(self, name: str, look: Callable[[], object], every_s: float) -> None:
        self._name, self._look, self._every_s = name, look, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def close(self) -> None:
        """Stop; a look under way ends first."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._look()
            except StoreError as error:
                logger.warning("%s put off reason=%s; trying again", self._name, error)
            except Exception:
                logger.exception("%s failed; trying again", self._name)
