"""Following the live pointer and the canary beside it: the engine serves what the store says, whoever moved it.

In one process a promote loads the new generation first (`prepare`), then moves the pointer in one transaction, then
tells the follower (`pointer_moved`): the next request is served by the new version. Where several servers share a
database each looks at the pointer's revision a few times a second. The pointer, not the engine, is the truth: after a
restart or a kill -9 in the middle of a swap, what it names is loaded and served.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from feedback_store import versions
from feedback_store.connection import Connection
from feedback_store.errors import StoreError
from feedback_store.records import Canary, PolicyVersion
from feedback_store.store import Store
from serving.adapters import adapter_dir
from serving.canary import CanaryShare
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
    """Keeps an engine on the versions that the store's pointer names. Start it once; `close` ends its thread."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        adapters_dir: Path,
        *,
        look_every_s: float = _LOOK_EVERY_S,
        swap_took: Callable[[str, float], None] = lambda stage, seconds: None,
    ) -> None:
        """`swap_took` is told how long the stages of a swap took: "load" for each version loaded, "switch"."""
        self._swap_took = swap_took
        self._store, self._engine, self._adapters_dir = store, engine, adapters_dir
        self._look_every_s = look_every_s
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._seen_revision: int | None = None
        self.canary: CanaryShare | None = None
        """The canary that the engine serves, for whoever starts replies. Set after it is loaded, cleared before it is
        retired; who looked a moment too early meets VersionNotServed and looks again."""
        self.refused: str | None = None
        """Why a version at the pointer is not served, or None. The live version before it, or the live one without
        its canary, goes on serving meanwhile."""
        self._retry_s = look_every_s
        self._thread = threading.Thread(target=self._run, name="policy-follower", daemon=True)

    def start(self) -> None:
        """Bring the engine to the pointer's versions, then follow it in a thread."""
        self.follow()
        self._thread.start()

    def prepare(self, version: int) -> None:
        """Load a version beside the live one, so that moving the pointer takes effect at once. Blocks a second or so.

        Raises NotFound, AdapterRefused, EngineUnavailable.
        """
        with self._turn:
            self._load(policy_of(self._store.read(versions.get_version, version), self._adapters_dir))

    def pointer_moved(self) -> None:
        """Follow now, in the caller's thread: when this returns, the next request is of the new version."""
        self.follow()

    def follow(self) -> None:
        """Bring the engine to the pointer's versions. A refused adapter is logged; the former live version stays."""
        with self._turn:
            revision, live, canary = self._store.read(_pointed_at)
            if revision == self._seen_revision:
                return
            self.refused, self._retry_s = None, self._look_every_s
            # A live version that is refused leaves what served before it, which may be the canary itself.
            serving = live.version if self._may_serve(live) else self._engine.live.version
            share = None
            if canary is not None and canary.version.version != serving and self._may_serve(canary.version):
                share = CanaryShare(canary.version.version, canary.share)
            if self.canary is not None and (share is None or share.version != self.canary.version):
                self.canary = None
            begun_at = time.monotonic()
            self._engine.make_live(serving, share.version if share else None)
            self._swap_took("switch", time.monotonic() - begun_at)
            self.canary = share
            if self.refused is None:
                self._seen_revision = revision

    def _may_serve(self, version: PolicyVersion) -> bool:
        """Load a version unless it is loaded; False, with the reason kept and logged, when it may not serve (yet)."""
        policy = policy_of(version, self._adapters_dir)
        if policy == self._engine.live:
            return True
        try:
            self._load(policy)
        except (AdapterRefused, EngineUnavailable) as refusal:
            self.refused = str(refusal)
            self._retry_s = _RETRY_AWAY_S if isinstance(refusal, EngineUnavailable) else _RETRY_REFUSED_S
            logger.error("version refused version=%d reason=%s", version.version, refusal)
            return False
        return True

    def _load(self, policy: PolicyRef) -> None:
        new = policy.version not in self._engine.loaded_versions
        begun_at = time.monotonic()
        self._engine.load(policy)
        if new:
            self._swap_took("load", time.monotonic() - begun_at)

    def close(self) -> None:
        """Stop following. The engine is the caller's to close."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._stop.wait(self._retry_s):
                _attempt(self.follow)


def _pointed_at(connection: Connection) -> tuple[int, PolicyVersion, Canary | None]:
    """What the pointer says, read in one moment."""
    return versions.pointer_revision(connection), versions.live_version(connection), versions.canary(connection)


def _attempt(follow: Callable[[], None]) -> None:
    """A store that is away for a while must not end the thread: the next look may succeed."""
    try:
        follow()
    except (StoreError, OSError):
        logger.warning("could not read the live pointer; trying again", exc_info=True)
    except Exception:
        logger.exception("could not follow the live pointer; trying again")
