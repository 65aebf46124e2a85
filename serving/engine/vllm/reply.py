"""One reply as it grows, wherever its tokens come from, and the stream that its reader iterates.

Text, stop strings and ends are made here from token ids, by the same code as in the embedded engine: a reply reads the
same whichever engine drew it. And because everything that was drawn is known here, a reply whose server dies can go on
at another one: the rest of it is a prompt that ends in the tokens so far.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from feedback_store.records import FinishReason, Sampling
from serving.engine import PolicyRef, ReplyDelta, ReplyEnd, ReplyRequest
from serving.engine.detokenize import TextStream
from serving.engine.vllm.wire import Drawn


class Reply:
    """What has been drawn of one reply. Used by the engine's loop alone.

    policy: what it is stamped with. adapter: as which the replicas draw it, None for the bare base model.
    """

    def __init__(
        self,
        request: ReplyRequest,
        policy: PolicyRef,
        adapter: str | None,
        decode: Callable[[Sequence[int]], str],
        end_ids: frozenset[int],
        sink: Callable[[ReplyDelta | ReplyEnd], None],
    ) -> None:
        self.policy, self.adapter = policy, adapter
        self.token_ids: list[int] = []
        self._request, self._end_ids, self._sink = request, end_ids, sink
        self._text = TextStream(decode, request.sampling.stop)
        self._logprob_nats = 0.0
        self._reason: FinishReason | None = None

    def take(self, drawn: Drawn) -> bool:
        """Add tokens and send their text; True when the reply has ended. Tokens after its end are dropped."""
        pieces = []
        for token, logprob in zip(drawn.token_ids, drawn.logprobs_nats, strict=True):
            self.token_ids.append(token)
            self._logprob_nats += logprob
            if token not in self._end_ids:
                pieces.append(self._text.push(token))
            self._reason = self._reason_after(token)
            if self._reason is not None:
                break
        if self._reason is None and drawn.finish_reason is not None:
            self._reason = "stop" if drawn.finish_reason == "stop" else "length"
        if text := "".join(pieces):
            self._sink(ReplyDelta(text))
        return self._reason is not None

    def rest(self) -> tuple[tuple[int, ...], Sampling]:
        """Return what to ask for now: prompt and sampling of the tokens that are still missing.

        A seed moves on with the tokens: repeated, it would draw the numbers that the beginning has used.
        """
        sampling, done = self._request.sampling, len(self.token_ids)
        seed = None if sampling.seed is None else sampling.seed + done
        left = replace(sampling, max_tokens=sampling.max_tokens - done, seed=seed)
        return (*self._request.prompt_ids, *self.token_ids), left

    def end(self) -> None:
        """Send what was held back, and the end; one that nothing ended was cancelled."""
        if rest := self._text.finish():
            self._sink(ReplyDelta(rest))
        self._sink(ReplyEnd(self._reason or "cancelled", tuple(self.token_ids), self._logprob_nats, self.policy))

    def _reason_after(self, token: int) -> FinishReason | None:
        if token in self._end_ids or self._text.stopped:
            return "stop"
        return "length" if len(self.token_ids) >= self._request.sampling.max_tokens else None


class VllmStream:
    """A reply under way, read from an event loop. See `serving.engine.ReplyStream`."""

    def __init__(self, policy: PolicyRef, cancel: Callable[["VllmStream"], None]) -> None:
        self.policy = policy
        self.task: asyncio.Task[None] | None = None
        """The drawing, in the engine's loop; set there."""
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[ReplyDelta | ReplyEnd | Exception] = asyncio.Queue()

    def feed(self, item: ReplyDelta | ReplyEnd | Exception) -> None:
        """Called from the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # the reader's loop is closed: nobody is left to read
            self.cancel()

    def cancel(self) -> None:
        """Close the connection on which the reply is drawn: vLLM stops within a step. Any thread may call it."""
        self._cancel(self)

    async def __aiter__(self) -> AsyncIterator[ReplyDelta | ReplyEnd]:
        while True:
            item = await self._items.get()
            if isinstance(item, Exception):
                raise item
            yield item
            if isinstance(item, ReplyEnd):
                return
