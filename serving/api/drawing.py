"""Drawing the candidates of one chat request: one prompt, each its own seed, all stopped together.

All are of one policy, except that a comparison under a canary is drawn from the live version and the canary in turn.
Of a duel more are drawn than are shown (see `dueling`), some of them under a hint about style.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import SystemRandom
from typing import Any

from feedback_store.records import Comparison, Message, Reply, Sampling
from serving.engine import Engine, ReplyEnd, ReplyRequest, ReplyStream, VersionNotServed

SEED_RANGE = 2**63
LOOKS = 3
"""How often the canary is looked up for one request before the live version answers it alone."""
Versions = Callable[[], Sequence[int | None]]
"""Looks up which version each candidate is to be of; None is the live one."""


@dataclass(frozen=True, slots=True)
class Hinted:
    """A hint about style, and the prompt with it."""

    hint: str
    prompt_ids: tuple[int, ...]


@dataclass(slots=True)
class Candidate:
    """One reply under way. `index` is its choice index, and where it is shown when candidates are compared."""

    reply_id: str
    index: int
    sampling: Sampling
    stream: ReplyStream
    drawn: int
    """Which draw this was, before the order was shuffled."""
    text: str = ""
    end: ReplyEnd | None = None
    latency_ms: float = 0.0
    first_text_s: float | None = None
    """From the request to its first text; None while there is none."""
    hint: str | None = None
    """The hint about style under which it was drawn. Its row is one of a reply to the plain prompt all the same."""
    plain_logprob_nats: float | None = None
    """With a hint: the log-probability of its tokens after the plain prompt; None while unknown."""

    @property
    def logprob_nats(self) -> float | None:
        """Its log-probability after the prompt that its row names."""
        drawn = None if self.end is None else self.end.logprob_nats
        return drawn if self.hint is None else self.plain_logprob_nats


@dataclass(slots=True)
class Draw:
    """All candidates of one request, in the order in which they are shown, with what their rows need."""

    completion_id: str
    channel: str
    conversation_id: str | None
    rater_id: str | None
    messages: tuple[Message, ...]
    rendered_prompt: str
    prompt_tokens: int
    compared: bool
    candidates: tuple[Candidate, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    started_at: float = field(default_factory=time.perf_counter)
    created_unix_s: int = field(default_factory=lambda: int(time.time()))
    cancelled: bool = False
    stored: bool = False
    """Whether the rows are committed: only then is a reply id a receipt."""
    prompt_ids: tuple[int, ...] = ()
    """Of the plain prompt."""
    to_show: int | None = None
    """How many of the candidates are to be shown once all have ended; None: all, or they are chosen already."""
    drawing: dict[str, Any] | None = None
    """How those that are shown came to be chosen, where more were drawn."""

    @property
    def policy_versions(self) -> tuple[int, ...]:
        """The version of each candidate, in the order shown: all alike, but in a comparison with a canary."""
        return tuple(candidate.stream.policy.version for candidate in self.candidates)

    @property
    def comparison_id(self) -> str | None:
        """A comparison shares the completion's id."""
        return self.completion_id if self.compared else None

    @property
    def completion_tokens(self) -> int:
        """Tokens generated in all candidates."""
        return sum(len(candidate.end.token_ids) for candidate in self.candidates if candidate.end)

    def cancel(self) -> None:
        """Stop every candidate within two steps; one that has ended stays as it is."""
        for candidate in self.candidates:
            if candidate.end is None:
                self.cancelled = True
                candidate.stream.cancel()

    def show(self, members: Sequence[int], drawing: dict[str, Any]) -> None:
        """Keep the candidates at these places alone, in a fresh random order; the others were never shown, and get no
        row. drawing: how it came to them."""
        shown = [self.candidates[place] for place in members]
        SystemRandom().shuffle(shown)
        self.drawing = drawing
        self.to_show = None
        for index, candidate in enumerate(shown):
            candidate.index, candidate.reply_id = index, f"{self.completion_id}-{index}"
        self.candidates = tuple(shown)

    def rows(self, keep_text: bool) -> Iterator[Reply]:
        """Yield the rows of the ended candidates; without `keep_text` their words are left out."""
        for candidate in self.candidates:
            if candidate.end is None:
                continue
            end = candidate.end
            yield Reply(
                reply_id=candidate.reply_id,
                policy_version=end.policy.version,
                adapter_sha256=end.policy.adapter_sha256,
                channel=self.channel,
                rater_id=self.rater_id,
                conversation_id=self.conversation_id,
                messages=self.messages if keep_text else None,
                rendered_prompt=self.rendered_prompt if keep_text else None,
                text=candidate.text if keep_text else None,
                finish_reason=end.finish_reason,
                sampling=candidate.sampling,
                prompt_tokens=self.prompt_tokens,
                completion_tokens=len(end.token_ids),
                logprob_nats=candidate.logprob_nats,
                latency_ms=candidate.latency_ms,
                comparison_id=self.comparison_id,
                shown_position=candidate.index if self.compared else None,
                metadata=self._row_metadata(candidate, keep_text),
            )

    def _row_metadata(self, candidate: Candidate, keep_text: bool) -> dict[str, str | int]:
        own: dict[str, str | int] = {"drawn": candidate.drawn} if len(self.candidates) > 1 else {}
        if candidate.hint is not None:
            own["hint"] = candidate.hint
        return {**(self.metadata if keep_text else {}), **own}

    def comparison(self) -> Comparison | None:
        """Return the comparison that these candidates open, if they do."""
        if not self.compared:
            return None
        shown = tuple(candidate.reply_id for candidate in self.candidates)
        return Comparison(
            self.completion_id, shown, self.rater_id, self.conversation_id, self.channel, drawing=self.drawing
        )


def new_id() -> str:
    """Return an id that cannot be guessed and sorts by time, so that rows of one hour lie together on disk."""
    return f"{time.time_ns() // 1_000_000:011x}-{secrets.token_hex(10)}"


def start_candidates(
    engine: Engine,
    completion_id: str,
    prompt_ids: tuple[int, ...],
    sampling: Sampling,
    versions: Versions,
    *,
    shuffle: bool,
    user: str | None = None,
    hinted: Sequence[Hinted | None] = (),
) -> tuple[Candidate, ...]:
    """Start a candidate for each of `versions` and return them in the order in which they are to be shown.

    Each draws with its own seed: seed + i if one was given, else one chosen here and logged, so that any candidate can
    be drawn again. With `shuffle` the order is a fresh random permutation. `user` is whose turn they take in the queue.
    `hinted`: for each candidate the hint that it is drawn under, if it is. Raises QueueFull and PromptTooLong; nothing
    is left running then.
    """
    count = len(versions())
    samplings = _own_seeds(sampling, count)
    hints = list(hinted) or [None] * count
    prompts = [prompt_ids if hint is None else hint.prompt_ids for hint in hints]
    requests = [ReplyRequest(prompt, own, user=user) for prompt, own in zip(prompts, samplings, strict=True)]
    streams = _start_all(engine, requests, versions)
    order = list(range(count))
    if shuffle:
        SystemRandom().shuffle(order)
    return tuple(
        Candidate(
            completion_id if count == 1 else f"{completion_id}-{index}",
            index,
            samplings[i],
            streams[i],
            i,
            hint=None if (hint := hints[i]) is None else hint.hint,
        )
        for index, i in enumerate(order)
    )


def _own_seeds(sampling: Sampling, count: int) -> list[Sampling]:
    if count == 1:
        return [sampling]
    first = secrets.randbits(48) if sampling.seed is None else sampling.seed
    # Wrapped into 64 signed bits: a caller's largest seed plus one is still a seed.
    return [replace(sampling, seed=(first + i + SEED_RANGE) % (2 * SEED_RANGE) - SEED_RANGE) for i in range(count)]


def _start_all(engine: Engine, requests: list[ReplyRequest], versions: Versions) -> list[ReplyStream]:
    """Start all or none. A swap between two starts would mix two live versions under one header, and a canary may end
    between the look and the start: begin again then."""
    looks = 0
    while True:
        looks += 1
        wanted = versions() if looks <= LOOKS else [None] * len(requests)
        streams: list[ReplyStream] = []
        try:
            for request, version in zip(requests, wanted, strict=True):
                streams.append(engine.start(replace(request, version=version)))
        except BaseException as error:
            for stream in streams:
                stream.cancel()
            if isinstance(error, VersionNotServed):
                continue
            raise
        live = {stream.policy.version for stream, version in zip(streams, wanted, strict=True) if version is None}
        if len(live) <= 1:
            return streams
        for stream in streams:
            stream.cancel()


async def grow(candidate: Candidate, started_at: float) -> AsyncIterator[str]:
    """Yield the candidate's text piece by piece; when it ends, `end` and `latency_ms` are set.

    A stream that stops without a ReplyEnd leaves `end` None: that reply did not happen and gets no row.
    """
    async for item in candidate.stream:
        if isinstance(item, ReplyEnd):
            candidate.latency_ms = (time.perf_counter() - started_at) * 1000
            candidate.end = item
        elif item.text:
            if candidate.first_text_s is None:
                candidate.first_text_s = time.perf_counter() - started_at
            candidate.text += item.text
            yield item.text


async def draw_whole(draw: Draw) -> None:
    """Draw all candidates to their ends, without showing anything. What one raises is raised when all are told to
    stop; of a duel only where too few are left to be shown, and those that failed are dropped."""

    async def drain(candidate: Candidate) -> None:
        async for _ in grow(candidate, draw.started_at):
            pass

    tasks = [asyncio.create_task(drain(candidate)) for candidate in draw.candidates]
    try:
        found = await asyncio.gather(*tasks, return_exceptions=draw.to_show is not None)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    failed = [error for error in found if isinstance(error, BaseException)]
    if failed:
        left = tuple(one for one, error in zip(draw.candidates, found, strict=True) if error is None)
        if len(left) < (draw.to_show or 0):
            raise failed[0]
        draw.candidates = left
