"""The engine protocol over vLLM servers: versions held, the live pointer, requests counted in and out.

One thread runs an event loop that does all the HTTP; the protocol's methods may be called from any other. A version is
wanted from `load` until it is retired and its last reply has ended: that is counted here, not asked of a server, and it
is what the replicas are brought to (`replica.look`). So a swap is: load everywhere, warm, flip the pointer here, let
the former version drain, unload. Nothing that is under way is touched at any step.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import httpx

from feedback_store.records import Message
from serving.engine import (
    EngineClosed,
    EngineUnavailable,
    PolicyRef,
    PromptTooLong,
    QueueFull,
    ReplicaState,
    ReplyRequest,
    VersionNotServed,
)
from serving.engine.vllm.base import GatewayBase
from serving.engine.vllm.fleet import Fleet
from serving.engine.vllm.replica import Adapter, Replica
from serving.engine.vllm.reply import Reply, VllmStream
from serving.settings import ServingSettings, VllmSettings

logger = logging.getLogger(__name__)

_KEEPALIVE_S = 3.0
"""Below the 5 s after which vLLM's server closes an idle connection: one that is just being closed is never reused."""


@dataclass(slots=True)
class _Held:
    policy: PolicyRef
    in_flight: int = 0
    retired: bool = False


class VllmEngine:
    """See `serving.engine.Engine`. Starts with `first` live, and serves it as soon as a replica does."""

    def __init__(
        self,
        base: GatewayBase,
        serving: ServingSettings,
        settings: VllmSettings,
        first: PolicyRef,
        api_key: str | None = None,
        blank: PolicyRef | None = None,
    ) -> None:
        """`blank` is as which policies without an adapter are drawn (see `blank`); without it, as the bare model."""
        base.admit(first)
        self._blank = blank
        self._base, self._serving, self._settings = base, serving, settings
        self._lock = threading.Condition()
        self._held = {first.version: _Held(first)}
        self._live = first
        self._closing = False
        self._streams: set[VllmStream] = set()
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._fleet, self._loop, self._stop, self._thread = self._start_loop(headers)

    @property
    def live(self) -> PolicyRef:
        """The policy that new requests are pinned to."""
        return self._live

    @property
    def loaded_versions(self) -> dict[int, int]:
        """Version → replies under way, for every version that the replicas are to hold."""
        with self._lock:
            return {version: held.in_flight for version, held in self._held.items()}

    def replicas(self) -> tuple[ReplicaState, ...]:
        """How each replica is doing, with respect to the live version."""
        adapter = self._drawn_as(self._live).adapter_sha256
        return tuple(self._state_of(replica, adapter) for replica in self._fleet.replicas)

    def render(self, messages: tuple[Message, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the prompt as text and token ids."""
        return self._base.renderer.render(messages)

    def start(self, request: ReplyRequest) -> VllmStream:
        """Admit a request from a running event loop.

        Raises EngineClosed, EngineUnavailable, PromptTooLong, QueueFull, VersionNotServed. A server that is full all
        the same, or lost before the first token, says so from the iteration.
        """
        with self._lock:
            if self._closing:
                raise EngineClosed("the server is stopping; try again in a few seconds")
            policy = self._policy_for(request)
            serving = self._fleet.serving(self._drawn_as(policy).adapter_sha256)
            if not serving:
                raise EngineUnavailable(f"no vLLM server serves version {policy.version} yet")
            request = self._within_context(request, serving)
            under_way = sum(held.in_flight for held in self._held.values())
            if under_way >= len(serving) * (self._serving.max_batch + self._serving.queue_limit):
                raise QueueFull(retry_after_s=5)
            stream = VllmStream(policy, self._cancel)
            self._held[policy.version].in_flight += 1
            self._streams.add(stream)
        self._loop.call_soon_threadsafe(self._begin, stream, request)
        return stream

    def load(self, policy: PolicyRef) -> None:
        """Have the replicas load and warm a version, in the caller's thread. Raises AdapterRefused, EngineUnavailable;
        then nothing changes."""
        self._base.admit(policy)
        with self._lock:
            if self._closing:
                raise EngineClosed("the server is stopping")
            is_new = policy.version not in self._held
            held = self._held.setdefault(policy.version, _Held(policy))
            held.retired = False
        try:
            asyncio.run_coroutine_threadsafe(self._fleet.bring(self._drawn_as(policy)), self._loop).result()
        except BaseException:
            with self._lock:
                held.retired = is_new
                self._drop_drained()
            raise
        logger.info("version loaded version=%d", policy.version)

    def make_live(self, version: int, canary: int | None = None) -> None:
        """Flip the pointer. New requests take `version` at once; what is neither it nor the canary is unloaded when it
        is drained."""
        with self._lock:
            kept = {version} if canary is None else {version, canary}
            for missing in kept - self._held.keys():
                raise LookupError(f"version {missing} is not loaded; load it first")
            for other, held in self._held.items():
                held.retired = other not in kept
            self._live = self._held[version].policy
            self._drop_drained()
        logger.info("version live version=%d canary=%s", version, canary)

    def close(self, drain_timeout_s: float) -> None:
        """Take no more requests, let those under way end within the time, cancel the rest, stop the thread."""
        with self._lock:
            self._closing = True
            if not self._lock.wait_for(lambda: not self._streams, drain_timeout_s):
                for stream in tuple(self._streams):
                    self._cancel(stream)
                self._lock.wait_for(lambda: not self._streams, 10)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def _policy_for(self, request: ReplyRequest) -> PolicyRef:
        """Under the lock: the live policy, or the one that the request names."""
        if request.version is None:
            return self._live
        held = self._held.get(request.version)
        if held is None or held.retired:
            raise VersionNotServed(request.version)
        return held.policy

    def _drawn_as(self, policy: PolicyRef) -> PolicyRef:
        """What the replicas know a policy as."""
        return policy if policy.adapter_sha256 is not None or self._blank is None else self._blank

    def _wanted(self) -> dict[Adapter, PolicyRef]:
        """What the replicas are to hold: an adapter may be that of several versions."""
        with self._lock:
            policies = [self._drawn_as(held.policy) for held in self._held.values()]
        return {policy.adapter_sha256: policy for policy in policies}

    def _within_context(self, request: ReplyRequest, serving: list[Replica]) -> ReplyRequest:
        lengths = [replica.longest_tokens for replica in serving if replica.longest_tokens]
        longest = min((self._serving.max_context_tokens, *lengths))
        room = longest - len(request.prompt_ids)
        if room < 1:
            raise PromptTooLong(len(request.prompt_ids), longest - 1)
        if request.sampling.max_tokens <= room:
            return request
        return replace(request, sampling=replace(request.sampling, max_tokens=room))

    def _begin(self, stream: VllmStream, request: ReplyRequest) -> None:
        """In the loop: draw, and end the stream however the drawing ends."""
        adapter = self._drawn_as(stream.policy).adapter_sha256
        reply = Reply(request, stream.policy, adapter, self._base.tokenizer.decode, self._base.end_ids, stream.feed)
        stream.task = asyncio.get_running_loop().create_task(self._fleet.draw(reply))
        stream.task.add_done_callback(partial(self._ended, stream, reply))

    def _ended(self, stream: VllmStream, reply: Reply, task: "asyncio.Task[None]") -> None:
        """In the loop. A reply that failed before its first token never was; later its reader has seen a part of it."""
        error = None if task.cancelled() else task.exception()
        with self._lock:
            self._streams.discard(stream)
            self._held[stream.policy.version].in_flight -= 1
            self._drop_drained()
            self._lock.notify_all()
        if error is not None:
            logger.error(
                "reply failed version=%d tokens=%d reason=%s", stream.policy.version, len(reply.token_ids), error
            )
        if isinstance(error, Exception) and not reply.token_ids:
            stream.feed(error)
        else:
            reply.end()

    def _cancel(self, stream: VllmStream) -> None:
        def cancel_here() -> None:  # after _begin: a loop keeps the order of what it is handed
            if stream.task is not None:
                stream.task.cancel()

        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(cancel_here)

    def _drop_drained(self) -> None:
        """Under the lock: what is retired and has no reply left is wanted no more."""
        drained = [version for version, held in self._held.items() if held.retired and not held.in_flight]
        for version in drained:
            del self._held[version]
            logger.info("version drained version=%d", version)
        if drained and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._fleet.wake)

    def _state_of(self, replica: Replica, adapter: Adapter) -> ReplicaState:
        found = replica.why_not(adapter)
        return ReplicaState(replica.url, replica.serves(adapter), found[0] if found else None, replica.in_flight)

    def _start_loop(
        self, headers: Mapping[str, str]
    ) -> tuple[Fleet, asyncio.AbstractEventLoop, asyncio.Event, threading.Thread]:
        """Start the thread and its loop; return when they run."""
        # No proxy of the environment between us and a private network; no redirect to somewhere else.
        client = httpx.AsyncClient(
            headers=headers,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_KEEPALIVE_S),
        )
        started = threading.Event()
        made: list[tuple[Fleet, asyncio.AbstractEventLoop, asyncio.Event]] = []

        async def run() -> None:
            async with client:
                fleet, stop = Fleet(client, self._base, self._settings, self._wanted), asyncio.Event()
                made.append((fleet, asyncio.get_running_loop(), stop))
                fleet.start()
                started.set()
                await stop.wait()
                await fleet.stop()

        thread = threading.Thread(target=lambda: asyncio.run(run()), name="vllm-engine", daemon=True)
        thread.start()
        started.wait()
        return *made[0], thread
