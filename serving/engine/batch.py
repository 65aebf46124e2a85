"""The rows of one generation: prompts join and are read in chunks, every step adds one token to each reply, ended
replies leave.

Synchronous and single-threaded: `torch_engine` drives it from its thread, the gate from its own process.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from feedback_store.records import FinishReason
from serving.engine import PolicyRef, ReplyDelta, ReplyEnd, ReplyRequest
from serving.engine.detokenize import TextStream
from serving.engine.forward import Piece, open_rows
from serving.engine.prefixes import WORTH_WAITING, PrefixRows, common_prefix
from serving.engine.sampling import choose_tokens

Sink = Callable[[ReplyDelta | ReplyEnd], None]
Decode = Callable[[Sequence[int]], str]

_PREFILL_TOKENS = {"cpu": 128}
_PREFILL_TOKENS_ELSEWHERE = 2048
_ALONE = 4
"""Chunks are this many times larger while no reply is under way: nobody waits for the next token then."""


@dataclass(slots=True, eq=False)
class Row:
    """One reply under way. `cancelled` may be set from any thread; the next step then ends the reply."""

    request: ReplyRequest
    sink: Sink
    text: TextStream
    chance: random.Random
    token_ids: list[int] = field(default_factory=list)
    logprob_nats: float = 0.0
    cancelled: bool = False
    queued_at: float = field(default_factory=time.monotonic)
    cache_row: int | None = None
    """Where its keys are stored; None until its prompt begins to be read."""
    given: tuple[int, ...] = ()
    """A completion that is there already, to be scored: it is read like a prompt, and nothing is drawn."""
    scored: bool = False
    reads: tuple[int, ...] = field(init=False)
    """What is read before the first token is drawn, or the last one scored."""

    def __post_init__(self) -> None:
        self.reads = self.request.prompt_ids + self.given[:-1]

    def score(self, logits_KV: torch.Tensor, end: int) -> None:
        """Take in the logits after the last K tokens up to position `end` of what it reads."""
        last = end - len(self.request.prompt_ids) + 1
        targets_K = torch.tensor(self.given[last - len(logits_KV) : last], device=logits_KV.device)
        self.logprob_nats += float(torch.log_softmax(logits_KV, -1).gather(1, targets_K[:, None]).sum())
        self.scored = end == len(self.reads)


def new_row(request: ReplyRequest, sink: Sink, decode: Decode, given: tuple[int, ...] = ()) -> Row:
    """A reply that has not begun."""
    text = TextStream(decode, request.sampling.stop)
    return Row(request, sink, text, random.Random(request.sampling.seed), given=given)


class GenerationBatch:
    """Continuous batching over one immutable model.

    `prefill_tokens` bounds the prompt tokens read in one step beside replies under way, so that a long prompt delays
    their next token by tens of milliseconds instead of seconds. None: by device.
    """

    def __init__(
        self,
        model: Any,
        policy: PolicyRef,
        *,
        end_ids: frozenset[int],
        rows: int,
        max_positions: int,
        device: torch.device,
        prefill_tokens: int | None = None,
    ) -> None:
        self.policy = policy
        self.rows: list[Row] = []
        self._end_ids, self._device, self._capacity = end_ids, device, rows
        self._prefill_tokens = prefill_tokens or _PREFILL_TOKENS.get(device.type, _PREFILL_TOKENS_ELSEWHERE)
        self._forward = open_rows(model, rows, max_positions, device)
        self._cache = PrefixRows(rows)

    @property
    def free_rows(self) -> int:
        """Replies that may still join."""
        return self._capacity - len(self.rows)

    def joinable(self, waiting: Sequence[Row]) -> int:
        """How many of `waiting`, in order, should join now: as many as rows are free, but no more prompts than a few
        steps can read, so that who comes later and is due earlier need not wait behind them. At least one when a row
        is free and no prompt is being read."""
        unread = sum(len(row.reads) - self._stored(row) for row in self.rows if not row.token_ids)
        count = 0
        for row in waiting[: self.free_rows]:
            if unread and unread + len(row.reads) > _ALONE * self._prefill_tokens:
                break
            unread += len(row.reads)
            count += 1
        return count

    def join(self, joining: Sequence[Row]) -> None:
        """Take up replies; the next steps read their prompts and draw their tokens. At most `free_rows`."""
        self.rows.extend(joining)

    @torch.inference_mode()
    def step(self) -> int:
        """Add one token to every reply whose prompt is read, and read on in the others; return how many were drawn."""
        self._leave()
        if not self.rows:
            return 0
        pieces = self._pieces()
        logits = self._forward.run([piece for _, piece in pieces])
        for _, piece in pieces:
            self._cache.stored(piece.row).extend(piece.token_ids)
        wanted = [(row, piece) for row, piece in pieces if piece.wants_logits]
        if any(row.given for row, _ in wanted):
            wanted, logits = self._score(wanted, logits)
        drawing = [row for row, _ in wanted]
        if drawing:
            self._append(drawing, logits)
        self._leave()
        return len(drawing)

    def _score(
        self, wanted: Sequence[tuple[Row, Piece]], logits: torch.Tensor
    ) -> tuple[list[tuple[Row, Piece]], torch.Tensor]:
        """Score given completions; return what is left to draw, with its logits."""
        parts = torch.split(logits, [piece.every for _, piece in wanted])
        for (row, piece), part in zip(wanted, parts, strict=True):
            if row.given:
                row.score(part, piece.end)
        left = [place for place, (row, _) in enumerate(wanted) if not row.given]
        rest = torch.cat([parts[place] for place in left]) if left else logits[:0]
        return [wanted[place] for place in left], rest

    def abandon(self) -> None:
        """End every reply as cancelled and forget the cache: a step failed, and what it has stored is not known."""
        for row in self.rows:
            end_row(row, "cancelled", self.policy)
        self.rows.clear()
        self._cache.forget()

    def _pieces(self) -> list[tuple[Row, Piece]]:
        """What this step runs: the newest token of every reply, and chunks of prompts in the order of joining."""
        pieces = []
        for row in self.rows:
            if row.token_ids:
                assert row.cache_row is not None
                pieces.append((row, Piece(row.cache_row, self._stored(row), row.token_ids[-1:])))
        budget = self._prefill_tokens * (1 if pieces else _ALONE)
        being_read: list[Row] = []
        for row in self.rows:
            if budget <= 0:
                break
            if row.token_ids:
                continue
            if row.cache_row is None and not self._begin(row, being_read):
                continue
            assert row.cache_row is not None
            being_read.append(row)
            start = self._stored(row)
            chunk = row.reads[start : start + budget]
            budget -= len(chunk)
            pieces.append((row, _reading(row, Piece(row.cache_row, start, chunk))))
        return pieces

    def _begin(self, row: Row, being_read: Sequence[Row]) -> bool:
        """Find a cache row for a prompt, with the longest stored prefix in it; False where it pays to wait for a prompt
        that is being read and begins alike."""
        prompt = row.request.prompt_ids
        _, stored = self._cache.best_match(prompt)
        for other in being_read:
            if common_prefix(other.request.prompt_ids, prompt) - stored > WORTH_WAITING:
                return False
        row.cache_row, source, kept = self._cache.take(prompt)
        if kept and source != row.cache_row:
            self._forward.copy_row(source, row.cache_row, kept)
        return True

    def _stored(self, row: Row) -> int:
        return 0 if row.cache_row is None else len(self._cache.stored(row.cache_row))

    def _append(self, rows: Sequence[Row], logits_BV: torch.Tensor) -> None:
        samplings = [row.request.sampling for row in rows]
        tokens, logprobs = choose_tokens(
            logits_BV,
            torch.tensor([sampling.temperature for sampling in samplings], device=self._device),
            torch.tensor([sampling.top_p for sampling in samplings], device=self._device),
            lambda place: rows[place].chance.random(),
        )
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
            row.token_ids.append(token)
            row.logprob_nats += logprob
            if token not in self._end_ids:
                piece = row.text.push(token)
                if piece:
                    row.sink(ReplyDelta(piece))

    def _leave(self) -> None:
        """End the replies that are done."""
        ended = [(row, reason) for row in self.rows if (reason := self._finish_reason(row)) is not None]
        if not ended:
            return
        # Out of the batch before its reader hears of it: who has read the end finds the place free.
        gone = {id(row) for row, _ in ended}
        self.rows[:] = [row for row in self.rows if id(row) not in gone]
        for row, reason in ended:
            if row.cache_row is not None:
                self._cache.release(row.cache_row)
            end_row(row, reason, self.policy)

    def _finish_reason(self, row: Row) -> FinishReason | None:
        if row.cancelled:
            return "cancelled"
        if row.given:
            return None if not row.scored else "stop" if row.given[-1] in self._end_ids else "length"
        if not row.token_ids:
            return None
        if row.token_ids[-1] in self._end_ids or row.text.stopped:
            return "stop"
        return "length" if len(row.token_ids) >= row.request.sampling.max_tokens else None


def end_row(row: Row, reason: FinishReason, policy: PolicyRef) -> None:
    """Send what was held back, then the end."""
    rest = row.text.finish()
    if rest:
        row.sink(ReplyDelta(rest))
    row.sink(ReplyEnd(reason, row.given or tuple(row.token_ids), row.logprob_nats, policy))


def _reading(row: Row, piece: Piece) -> Piece:
    """Ask for the logits that a chunk of what a row reads is read for: after its very last token, or wherever a given
    completion goes on."""
    if not row.given:
        return replace(piece, wants_logits=piece.end == len(row.reads))
    first = max(piece.start, len(row.request.prompt_ids) - 1)
    return replace(piece, wants_logits=piece.end > first, every=max(1, piece.end - first))
