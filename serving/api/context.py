"""What the API is made of, handed in by whoever composes a process (`thumbwise up`, `thumbwise serve`, a test).

`serving` may not import `trainer`, so readiness, and the news that the live pointer moved, come in as functions.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request

from feedback_store.settings import PrivacySettings, TrustSettings
from feedback_store.store import Store
from serving.api.metrics import ApiMetrics
from serving.api.under_way import RepliesUnderWay
from serving.api.vote_rate import VoteRate
from serving.canary import CanaryShare
from serving.engine import Engine, PolicyRef, ReplicaState
from serving.settings import DuelSettings, PolicySettings, ServingSettings
from serving.telemetry import Telemetry

TokenIds = tuple[int, ...]


def _unknown_readiness() -> dict[str, Any]:
    return {"ready": False, "reasons": ["no trainer is attached to this server"]}


@dataclass(slots=True)
class ApiContext:
    """The parts of one server. `stopping` is the only thing that changes: from then on no reply is admitted."""

    store: Store
    engine: Engine
    rater_key: bytes = field(repr=False)
    admin_token: str = field(repr=False)
    data_dir: Path
    policy: PolicySettings = field(default_factory=PolicySettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    duels: DuelSettings = field(default_factory=DuelSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    trust: TrustSettings = field(default_factory=TrustSettings)
    readiness: Callable[[], dict[str, Any]] = _unknown_readiness
    """Report whether a round could run now: at least `ready` (bool). May block: it is called in a worker thread."""
    on_pointer_moved: Callable[[], None] = lambda: None
    """Told after a promote or rollback was committed, so that the engine follows at once. Called in a worker thread."""
    prepare_version: Callable[[int], None] = lambda version: None
    """Called in a worker thread before the pointer moves to a version: loads it, or raises AdapterRefused (409)."""
    canary: Callable[[], CanaryShare | None] = lambda: None
    """Say which version is served as a canary, and to whom. Called for every chat request: it must be quick."""
    canary_report: Callable[[], dict[str, Any] | None] = lambda: None
    """Say how the present canary stands; None without one. May block: it is called in a worker thread."""
    duel_rewards: Callable[[tuple[int, ...], Sequence[tuple[int, ...]]], list[float] | None] = lambda prompt, drawn: (
        None
    )
    """Score completions of a prompt (token ids) by a reward model that may be trusted; None where there is none. Called
    in a worker thread while somebody waits."""
    replicas: Callable[[], tuple[ReplicaState, ...]] | None = None
    """How the servers that draw the replies are doing; None where the engine is in this process."""
    held_back_channels: tuple[str, ...] = ("discord",)
    """Channels whose texts no round learns from: whoever asks people for their consent must tell them so."""
    extra_hosts: tuple[str, ...] = ()
    """Host names beyond localhost, the loopback addresses and serving.host under which this server may be spoken to."""
    close_parts: bool = True
    """False: the composer closes engine and store itself, after it has stopped what else uses them."""
    metrics: ApiMetrics = field(default_factory=ApiMetrics)
    telemetry: Telemetry = field(default_factory=Telemetry)
    under_way: RepliesUnderWay = field(default_factory=RepliesUnderWay)
    vote_rate: VoteRate = field(default_factory=VoteRate)
    started_at: float = field(default_factory=time.monotonic)
    stopping: bool = False

    def live_policy(self) -> PolicyRef | None:
        """Return the policy that new replies are pinned to, or None while no generation is live."""
        try:
            return self.engine.live
        except (LookupError, RuntimeError):
            return None

    def can_draw(self) -> bool:
        """Say whether a reply of the live policy could be drawn now."""
        if self.live_policy() is None:
            return False
        return self.replicas is None or any(replica.serving for replica in self.replicas())


def context_of(request: Request) -> ApiContext:
    """Return the parts of the server that this request came to."""
    context: ApiContext = request.app.state.context
    return context
