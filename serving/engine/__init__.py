"""What serves tokens: a Protocol, and the small values that cross it. No torch in this file.

An engine holds one or more *generations*: the merged weights of one PolicyVersion, read-only once loaded. A request is
pinned to a generation when it is admitted and never leaves it; a generation is freed when it is retired and its last
request has ended. So one reply is always of one policy.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from feedback_store.records import FinishReason, Message, Sampling
from serving.engine.figures import EngineFigures


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """Which policy: the version's number, and its sealed adapter's hash and folder (both None for the base model)."""

    version: int
    adapter_sha256: str | None = None
    adapter_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """One reply to draw. `prompt_ids` are the rendered prompt's token ids; candidates of one prompt are one request
    each and share nothing but the prompt. `version` names a loaded version; None is the live one. `user` is whose turn
    it takes in the queue (a rater's hash); None is everybody without a name, together."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    version: int | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class ReplyDelta:
    """A piece of a reply as it grows: new text since the last piece (possibly empty while a multi-byte character or a
    possible stop string is incomplete)."""

    text: str


@dataclass(frozen=True, slots=True)
class ReplyEnd:
    """The last value of a stream. `token_ids` holds the completion, its end token included when finish_reason is
    "stop" by end token; `logprob_nats` is their summed log-probability at temperature 1."""

    finish_reason: FinishReason
    token_ids: tuple[int, ...]
    logprob_nats: float
    policy: PolicyRef


class EngineClosed(RuntimeError):
    """The engine is stopping and takes no more requests."""


class QueueFull(RuntimeError):
    """The bounded queue has no place; `retry_after_s` says when to try again.

    `own`: how many requests of this user wait, when it is they that leave too little room for others; else None.
    """

    def __init__(self, retry_after_s: float, *, own: int | None = None) -> None:
        full = "the reply queue is full" if own is None else f"{own} requests of this user wait already"
        super().__init__(f"{full}; try again in {retry_after_s:.0f} s")
        self.retry_after_s, self.own = retry_after_s, own


class VersionNotServed(LookupError):
    """A request named a version that is not loaded, or no longer takes requests; holds `version`."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version} takes no requests; wanted: the live version, or the canary beside it")
        self.version = version


class EngineUnavailable(RuntimeError):
    """No server that holds the policy can be reached now, although it may soon; `retry_after_s` says when to try."""

    def __init__(self, reason: str, retry_after_s: float = 2) -> None:
        super().__init__(f"no reply can be drawn now: {reason}; try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class AdapterRefused(ValueError):
    """An adapter may not serve: the message says which check it failed. The live generation is untouched."""


class PromptTooLong(ValueError):
    """The prompt does not leave room for one token of reply; holds `tokens` and `limit`."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"the prompt has {tokens} tokens; at most {limit} are allowed: shorten the conversation")
        self.tokens, self.limit = tokens, limit


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """How one server of an engine that spans several is doing; the embedded engine has none."""

    url: str
    serving: bool
    """It draws replies of the live policy."""
    trouble: str | None
    """Why it draws none, or what else is wrong with it."""
    in_flight: int
    """Replies that this process has under way there."""


class ReplyStream(Protocol):
    """A reply under way. Iterate for ReplyDelta values and one final ReplyEnd; `cancel` stops it within 2 steps.

    An engine over the network may raise QueueFull or EngineUnavailable from the iteration, before the first delta.
    """

    policy: PolicyRef

    def __aiter__(self) -> AsyncIterator[ReplyDelta | ReplyEnd]: ...
    def cancel(self) -> None: ...


class Engine(Protocol):
    """Serves replies of the live generation and swaps generations under way. Thread-safe."""

    def render(self, messages: tuple[Message, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the prompt as text and as token ids, through the model's chat template. Control tokens written in a
        message are data: they become ordinary text tokens."""
        ...

    def start(self, request: ReplyRequest) -> ReplyStream:
        """Admit a request, pinned to the live generation or to the one it names.

        Raises QueueFull, PromptTooLong, EngineClosed, VersionNotServed, and EngineUnavailable where the engine is
        elsewhere.
        """
        ...

    def load(self, policy: PolicyRef) -> None:
        """Build the generation of `policy` beside the others, off the request path. Blocks; raises AdapterRefused, and
        EngineUnavailable where the engine is elsewhere."""
        ...

    def make_live(self, version: int, canary: int | None = None) -> None:
        """Point new requests to a loaded version, keep the loaded `canary` for those that name it, retire all others.

        Raises LookupError when either is not loaded; then nothing changes.
        """
        ...

    @property
    def live(self) -> PolicyRef: ...

    @property
    def loaded_versions(self) -> dict[int, int]:
        """Version → replies in flight, for every generation still in memory."""
        ...

    def close(self, drain_timeout_s: float) -> None:
        """Take no more requests, let those in flight end within the time, stop."""
        ...


@runtime_checkable
class Measured(Protocol):
    """An engine that does its own steps and can say how they go; one that passes requests on has no such figures."""

    @property
    def figures(self) -> EngineFigures: ...


@runtime_checkable
class Scoring(Protocol):
    """An engine that can say how likely a given completion is; one that passes requests on may not be able to."""

    async def logprob_nats(
        self, prompt_ids: tuple[int, ...], completion_ids: tuple[int, ...], version: int, *, user: str | None = None
    ) -> float:
        """Return log p(completion | prompt) at temperature 1 under a loaded version, in nats: what ReplyEnd holds of a
        reply that was drawn. Raises as `Engine.start` does."""
        ...
