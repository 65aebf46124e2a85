"""Following the live pointer: the engine serves what the store says, whoever moved it.

In one process a promote loads the new generation first (`prepare`), then moves the pointer in one transaction, then
tells the follower (`pointer_moved`): the next request is served by the new version. Where several servers share a
database each looks at the pointer's revision a few times a second. The pointer, not the engine, is the truth: after a
restart or a kill -9 in the middle of a swap, what it names is loaded and served.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from feedback_store import versions
from feedback_store.errors import StoreError
from feedback_store.records import PolicyVersion
from feedback_store.store import Store
from serving.adapters import adapter_dir
from serving.engine import AdapterRefused, Engine, EngineUnavailable, PolicyRef

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
_RETRY_REFUSED_S = 30.0
_RETRY_AWAY_S = 2.0


def policy_of(version: PolicyVersion, adapters_dir: Path) -> PolicyRef:
    """Return what the engine needs to load a version."""
    if version.adapter_sha256 is None:
        return PolicyRef(version.version)
    return PolicyRef(version.version, version.adapter_sha256, adapter_dir(adapters_dir, version.adapter_sha256))


class PolicyFollower:
    """Keeps an engine on the version that the store's pointer names. Start it once; `close` ends its thread."""

    def __init__(
        self, store: Store, engine: Engine, adapters_dir: Path, *, look_every_s: float = _LOOK_EVERY_S
    ) -> None:
        self._store, self._engine, self._adapters_dir = store, engine, adapters_dir
        self._look_every_s = look_every_s
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._seen_revision: int | None = None
        self.refused: str | None = None
        """Why the version at the pointer is not served, or None. The former version goes on serving meanwhile."""
        self._retry_s = look_every_s
        self._thread = threading.Thread(target=self._run, name="policy-follower", daemon=True)

    def start(self) -> None:
        """Bring the engine to the pointer's version, then follow it in a thread."""
        self.follow()
        self._thread.start()

    def prepare(self, version: int) -> None:
        """Load a version beside the live one, so that moving the pointer takes effect at once. Blocks a second or so.

        Raises NotFound, AdapterRefused, EngineUnavailable.
        """
        with self._turn:
            self._engine.load(policy_of(self._store.read(versions.get_version, version), self._adapters_dir))

    def pointer_moved(self) -> None:
        """Follow now, in the caller's thread: when this returns, the next request is of the new version."""
        self.follow()

    def follow(self) -> None:
        """Bring the engine to the pointer's version. A refused adapter is logged and leaves the engine as it is."""
        with self._turn:
            revision = self._store.read(versions.pointer_revision)
            if revision == self._seen_revision:
                return
            live = self._store.read(versions.live_version)
            policy = policy_of(live, self._adapters_dir)
            if policy != self._engine.live:
                try:
                    self._engine.load(policy)
                except (AdapterRefused, EngineUnavailable) as refusal:
                    self.refused = str(refusal)
                    self._retry_s = _RETRY_AWAY_S if isinstance(refusal, EngineUnavailable) else _RETRY_REFUSED_S
                    logger.error("version refused version=%d reason=%s", live.version, refusal)
                    return
                self._engine.make_live(live.version)
            self.refused, self._seen_revision, self._retry_s = None, revision, self._look_every_s

    def close(self) -> None:
        """Stop following. The engine is the caller's to close."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._stop.wait(self._retry_s):
                _attempt(self.follow)


def _attempt(follow: Callable[[], None]) -> None:
    """A store that is away for a while must not end the thread: the next look may succeed."""
    try:
        follow()
    except (StoreError, OSError):
        logger.warning("could not read the live pointer; trying again", exc_info=True)
    except Exception:
        logger.exception("could not follow the live pointer; trying again")
