"""An engine without a model: deterministic words at a chosen pace.

For measuring and testing what stands around a model (the API, the store, a client) where a model would only add minutes
and noise. The words depend on prompt, seed and version, so that two versions can be told apart.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator

from feedback_store.records import FinishReason, Message
from serving.engine import PolicyRef, PromptTooLong, QueueFull, ReplyDelta, ReplyEnd, ReplyRequest, VersionNotServed

WORDS = ("bird", "boat", "stove", "kettle", "song", "rain", "roof", "cat", "river", "lamp", "door", "garden", "bread")
LOGPROB_OF_A_WORD_NATS = -2.5


class WordStream:
    """One reply: `length` words, one a step, ended early by max_tokens or `cancel`."""

    def __init__(self, engine: "WordEngine", request: ReplyRequest, policy: PolicyRef) -> None:
        self.policy, self._engine, self._request = policy, engine, request
        self._cancelled = False

    def cancel(self) -> None:
        """Stop before the next word."""
        self._cancelled = True

    async def __aiter__(self) -> AsyncIterator[ReplyDelta | ReplyEnd]:
        """Yield the words and the end."""
        engine, sampling = self._engine, self._request.sampling
        engine.in_flight[self.policy.version] += 1
        drawn: list[int] = []
        try:
            reason: FinishReason = "stop" if engine.length <= sampling.max_tokens else "length"
            for place in range(min(engine.length, sampling.max_tokens)):
                await asyncio.sleep(engine.step_s)
                if self._cancelled:
                    reason = "cancelled"
                    break
                drawn.append(self._word(place))
                engine.words_written += 1
                yield ReplyDelta((" " if place else "") + WORDS[drawn[-1]])
            yield ReplyEnd(reason, tuple(drawn), LOGPROB_OF_A_WORD_NATS * len(drawn), self.policy)
        finally:
            engine.in_flight[self.policy.version] -= 1

    def _word(self, place: int) -> int:
        request = self._request
        key = repr((request.prompt_ids, request.sampling.seed, self.policy.version, place))
        return hashlib.sha256(key.encode()).digest()[0] % len(WORDS)


class WordEngine:
    """Serves words. `limit` bounds the replies under way; `longest_prompt` is in words."""

    def __init__(
        self, *, length: int = 8, step_s: float = 0.0, limit: int = 256, longest_prompt: int = 2048, live: bool = True
    ) -> None:
        self.length, self.step_s, self.limit, self.longest_prompt = length, step_s, limit, longest_prompt
        self.words_written = 0
        self.in_flight: Counter[int] = Counter()
        self.closed_after_s: float | None = None
        self._loaded: dict[int, PolicyRef] = {1: PolicyRef(1)} if live else {}
        self._live = 1 if live else None
        self._serving = set(self._loaded)

    def render(self, messages: tuple[Message, ...]) -> tuple[str, tuple[int, ...]]:
        """Write the messages as lines; every word is a token."""
        text = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
        return text, tuple(hashlib.sha256(word.encode()).digest()[0] for word in text.split())

    def start(self, request: ReplyRequest) -> WordStream:
        """Admit a request."""
        if sum(self.in_flight.values()) >= self.limit:
            raise QueueFull(retry_after_s=1.0)
        if len(request.prompt_ids) > self.longest_prompt:
            raise PromptTooLong(len(request.prompt_ids), self.longest_prompt)
        if request.version is None:
            return WordStream(self, request, self.live)
        if request.version not in self._serving:
            raise VersionNotServed(request.version)
        return WordStream(self, request, self._loaded[request.version])

    def load(self, policy: PolicyRef) -> None:
        """Hold another version."""
        self._loaded[policy.version] = policy

    def make_live(self, version: int, canary: int | None = None) -> None:
        """Serve another version from the next request on, and the canary to those that name it."""
        self._serving = {self._loaded[one].version for one in (version, canary) if one is not None}
        self._live = version

    @property
    def live(self) -> PolicyRef:
        """The version of new replies. Raises LookupError while there is none."""
        if self._live is None:
            raise LookupError("no generation is live yet")
        return self._loaded[self._live]

    @property
    def loaded_versions(self) -> dict[int, int]:
        """Version to replies in flight."""
        return {version: self.in_flight[version] for version in self._loaded}

    def close(self, drain_timeout_s: float) -> None:
        """Note that it was asked to end."""
        self.closed_after_s = drain_timeout_s
