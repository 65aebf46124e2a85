"""The default engine: one thread owns the models and schedules at the step level.

Requests join and leave between steps. Each is pinned to the generation that was live at its admission; a swap flips one
pointer under the lock, and a retired generation is dropped when its last reply has ended. Two generations with replies
under way take turns, a step each, so a swap costs the streams of neither more than a step of the other.
"""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from feedback_store.records import Message, Sampling
from serving.engine import (
    EngineClosed,
    EngineUnavailable,
    PolicyRef,
    PromptTooLong,
    ReplyDelta,
    ReplyEnd,
    ReplyRequest,
    VersionNotServed,
)
from serving.engine.background import in_background
from serving.engine.batch import GenerationBatch, Row, Sink, end_row, new_row
from serving.engine.fair_queue import FairQueue, check_room
from serving.engine.figures import EngineFigures, TurnMeter
from serving.engine.weights import BaseWeights
from serving.settings import ServingSettings

logger = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 0.0005
"""Python's own is 5 ms: half a decoding step."""


@dataclass(slots=True, eq=False)
class _Generation:
    batch: GenerationBatch
    waiting: FairQueue[Row] = field(default_factory=FairQueue)
    joining: list[Row] = field(default_factory=list)
    """Rows between the queue and the batch: without them a generation would look drained during its last prefill."""
    retired: bool = False
    stepped_at: float = 0.0
    """When its last step ended; without meaning before the first."""

    @property
    def in_flight(self) -> int:
        return len(self.waiting) + len(self.joining) + len(self.batch.rows)


class TorchStream:
    """A reply under way, read from an event loop. See `serving.engine.ReplyStream`."""

    def __init__(self, policy: PolicyRef) -> None:
        self.policy = policy
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[ReplyDelta | ReplyEnd] = asyncio.Queue()
        self._row: Row | None = None

    def feed(self, item: ReplyDelta | ReplyEnd) -> None:
        """Called by the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # the reader's loop is closed: nobody is left to read
            self.cancel()

    def bind(self, row: Row) -> None:
        """Tell the stream which row it cancels."""
        self._row = row

    def cancel(self) -> None:
        """Stop drawing within two steps."""
        if self._row is not None:
            self._row.cancelled = True

    async def __aiter__(self) -> AsyncIterator[ReplyDelta | ReplyEnd]:
        while True:
            item = await self._items.get()
            yield item
            if isinstance(item, ReplyEnd):
                return


class TorchEngine:
    """See `serving.engine.Engine`. Starts with `first` loaded and live."""

    def __init__(self, base: BaseWeights, settings: ServingSettings, first: PolicyRef) -> None:
        # Whoever computes in Python while a step ends makes the engine wait this long for the interpreter.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        self._base, self._settings = base, settings
        self._max_positions = min(settings.max_context_tokens, base.max_positions)
        self._lock = threading.Condition()
        self._generations: dict[int, _Generation] = {first.version: self._new_generation(first)}
        self._live = first
        self._closing = False
        self._wanted_threads = settings.threads or torch.get_num_threads()
        self._recent_wait_s = 0.0
        self.steps = 0
        self.tokens_drawn = 0
        self.figures = EngineFigures()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def live(self) -> PolicyRef:
        """The policy that new requests are pinned to."""
        return self._live

    @property
    def loaded_versions(self) -> dict[int, int]:
        """Version → replies waiting or under way."""
        with self._lock:
            return {version: generation.in_flight for version, generation in self._generations.items()}

    def render(self, messages: tuple[Message, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the prompt as text and token ids."""
        return self._base.renderer.render(messages)

    def start(self, request: ReplyRequest) -> TorchStream:
        """Admit a request from a running event loop.

        Raises QueueFull, PromptTooLong, EngineClosed, VersionNotServed.
        """
        if len(request.prompt_ids) >= self._max_positions:
            raise PromptTooLong(len(request.prompt_ids), self._max_positions - 1)
        with self._lock:
            generation = self._generation_for(request)
            stream = TorchStream(generation.batch.policy)
            stream.bind(self._admit(generation, request, stream.feed))
            return stream

    async def logprob_nats(
        self, prompt_ids: tuple[int, ...], completion_ids: tuple[int, ...], version: int, *, user: str | None = None
    ) -> float:
        """See `serving.engine.Scoring`. The completion is read in chunks, like a prompt, beside what is drawn."""
        if not completion_ids:
            return 0.0
        if len(prompt_ids) + len(completion_ids) > self._max_positions:
            raise PromptTooLong(len(prompt_ids) + len(completion_ids), self._max_positions)
        request = ReplyRequest(prompt_ids, Sampling(max_tokens=1), version=version, user=user)
        with self._lock:
            generation = self._generation_for(request)
            stream = TorchStream(generation.batch.policy)
            stream.bind(self._admit(generation, request, stream.feed, completion_ids))
        try:
            async for item in stream:
                if isinstance(item, ReplyEnd) and item.finish_reason != "cancelled":
                    return item.logprob_nats
        finally:
            stream.cancel()
        raise EngineUnavailable("the scoring of a completion broke off")

    def load(self, policy: PolicyRef) -> None:
        """Build a generation beside the others, in the caller's thread. Raises AdapterRefused; then nothing changes."""
        with self._lock:
            if policy.version in self._generations:
                self._generations[policy.version].retired = False
                return
        generation = in_background(partial(self._new_generation, policy))
        with self._lock:
            self._generations.setdefault(policy.version, generation)
        logger.info("generation loaded version=%d", policy.version)

    def make_live(self, version: int, canary: int | None = None) -> None:
        """Flip the pointer. New requests take `version` at once; the former generation lives until it is drained."""
        with self._lock:
            kept = {version} if canary is None else {version, canary}
            for missing in kept - self._generations.keys():
                raise LookupError(f"version {missing} is not loaded; load it first")
            for other, generation in self._generations.items():
                generation.retired = other not in kept
            self._live = self._generations[version].batch.policy
            self._drop_drained()
            self._lock.notify()
        logger.info("generation live version=%d canary=%s", version, canary)

    def use_threads(self, count: int) -> None:
        """Compute with `count` torch threads from the next step on (fewer while a round trains on the same machine)."""
        self._wanted_threads = max(1, count)

    def close(self, drain_timeout_s: float) -> None:
        """Take no more requests, let those under way end within the time, cancel the rest, stop the thread."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(drain_timeout_s)
        if self._thread.is_alive():
            with self._lock:
                for generation in self._generations.values():
                    for row in (*generation.waiting, *generation.batch.rows):
                        row.cancelled = True
            self._thread.join(10)

    def _new_generation(self, policy: PolicyRef) -> _Generation:
        batch = GenerationBatch(
            self._base.build(policy),
            policy,
            end_ids=self._base.end_ids,
            rows=self._settings.max_batch,
            max_positions=self._max_positions,
            device=self._base.device,
        )
        return _Generation(batch)

    def _generation_for(self, request: ReplyRequest) -> _Generation:
        if request.version is None:
            return self._generations[self._live.version]
        generation = self._generations.get(request.version)
        if generation is None or generation.retired:
            raise VersionNotServed(request.version)
        return generation

    def _admit(self, generation: _Generation, request: ReplyRequest, sink: Sink, given: tuple[int, ...] = ()) -> Row:
        if self._closing:
            raise EngineClosed("the server is stopping; try again in a few seconds")
        queues = [other.waiting for other in self._generations.values()]
        check_room(queues, request.user, self._settings.queue_limit, self._recent_wait_s)
        row = new_row(self._within_context(request), sink, self._base.tokenizer.decode, given)
        generation.waiting.append(request.user, row)
        self._lock.notify()
        return row

    def _within_context(self, request: ReplyRequest) -> ReplyRequest:
        room = self._max_positions - len(request.prompt_ids)
        if request.sampling.max_tokens <= room:
            return request
        return replace(request, sampling=replace(request.sampling, max_tokens=room))

    def _run(self) -> None:
        while True:
            if torch.get_num_threads() != self._wanted_threads:
                torch.set_num_threads(self._wanted_threads)
            with self._lock:
                while not self._closing and not any(g.in_flight for g in self._generations.values()):
                    self._lock.wait()
                busy = [generation for generation in self._generations.values() if generation.in_flight]
                if self._closing and not busy:
                    return
            for generation in busy:
                self._turn(generation)
            with self._lock:
                self._drop_drained()

    def _turn(self, generation: _Generation) -> None:
        """Let waiting prompts join, then add a token to every reply of one generation."""
        batch = generation.batch
        try:
            with self._lock:
                for row in [row for row in generation.waiting if row.cancelled]:
                    generation.waiting.remove(row)
                    end_row(row, "cancelled", batch.policy)
                ready = batch.joinable(list(generation.waiting))
                generation.joining = [generation.waiting.popleft() for _ in range(ready)]
                self._note_waits(generation.joining)
            meter = TurnMeter([*batch.rows, *generation.joining])
            if generation.joining:
                batch.join(generation.joining)
                generation.joining = []
            meter.step_begins()
            self.tokens_drawn += batch.step()
            self.steps += 1
            generation.stepped_at = meter.end(self.figures, generation.stepped_at)
        except Exception:
            # A step that fails (out of memory, a broken operator) must not take the server down with it: its replies
            # end as cancelled, and the next requests start on an empty batch.
            logger.exception("step failed version=%d replies=%d", batch.policy.version, len(batch.rows))
            for row in generation.joining:
                if row not in batch.rows:
                    end_row(row, "cancelled", batch.policy)
            batch.abandon()
            generation.joining = []

    def _note_waits(self, joining: list[Row]) -> None:
        """Follow how long requests wait, half from the newest: what a refused caller is told to wait."""
        now = time.monotonic()
        waits_s = [now - row.queued_at for row in joining]
        self.figures.joined(waits_s)
        for wait_s in waits_s:
            self._recent_wait_s += (wait_s - self._recent_wait_s) / 2

    def _drop_drained(self) -> None:
        for version, generation in list(self._generations.items()):
            if generation.retired and not generation.in_flight:
                del self._generations[version]
                logger.info("generation freed version=%d", version)
