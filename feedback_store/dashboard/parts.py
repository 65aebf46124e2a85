"""What the dashboard is made of, handed in by whoever composes a process (`thumbwise up`, `thumbwise serve`, a test).

`feedback_store` imports nothing of ours, so what the engine and the trainer know comes in as functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feedback_store.access.attempts import Attempts
from feedback_store.access.flows import Flows
from feedback_store.access.providers import Provider
from feedback_store.settings import AccessSettings
from feedback_store.store import Store

SIGN_IN_WINDOW_S = 15 * 60.0


def _unknown_readiness() -> dict[str, Any]:
    return {"ready": False, "reason": "no trainer is attached to this server", "requirements": {}, "counts": {}}


def _unknown_preview(wish: Mapping[str, Any]) -> dict[str, Any]:
    return {"possible": False, "reason": "no trainer is attached to this server"}


@dataclass(slots=True)
class DashboardParts:
    """The store, and what else the pages ask or tell. The functions may block: they are called in worker threads."""

    store: Store
    admin_token: str = field(repr=False)
    """Opens the set-up page. Empty: nobody can set up."""
    access: AccessSettings = field(default_factory=AccessSettings)
    readiness: Callable[[], dict[str, Any]] = _unknown_readiness
    """The trainer's report: could a round run now, and what is missing?"""
    preview: Callable[[Mapping[str, Any]], dict[str, Any]] = _unknown_preview
    """What a round of this wish would train on, and for how long; nothing is written."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """The vetted settings that a round starts from, by section (training, lora, gate, rounds)."""
    methods: tuple[str, ...] = ("kto", "dpo")
    """The methods that a round may be asked for."""
    round_log: Callable[[int], str | None] = lambda round_id: None
    """The last lines that a round's training process wrote; None where there is nothing (any more)."""
    serving: Callable[[], dict[str, Any]] = dict
    """What this server serves: `version`, `canary`, `loaded` (version → replies under way), `uptime_s`."""
    canary_course: Callable[[], Mapping[str, Any] | None] = lambda: None
    """The trainer's report on the present canary with its `course`: [comparisons, win rate, low, high] as they came."""
    prepare_version: Callable[[int], None] = lambda version: None
    """Called before the pointer moves to a version: loads it, or raises what makes it a conflict (see `conflicts`)."""
    on_pointer_moved: Callable[[], None] = lambda: None
    """Told after a promote, rollback or canary was committed."""
    conflicts: tuple[type[Exception], ...] = ()
    """Exceptions of `prepare_version` that a person is shown as a conflict."""
    patience_s: float = 0.1
    """How long a page waits for figures that are being worked out, before it is shown without them."""
    stopping: Callable[[], bool] = lambda: False
    """True once the server ends: open event streams then end too."""
    attempts: Attempts = field(default_factory=lambda: Attempts(SIGN_IN_WINDOW_S))
    providers: Mapping[str, Provider] = field(default_factory=dict)
    """Where people may sign in beside their password, by code. Empty: nowhere."""
    flows: Flows = field(init=False)
    """The ways to those providers that are under way."""

    def __post_init__(self) -> None:
        self.flows = Flows(self.admin_token)
