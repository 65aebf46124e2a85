"""The rows of one generation: prompts join, every step adds one token to each, ended replies leave.

Synchronous and single-threaded: `torch_engine` drives it from its thread, the gate from its own process.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from feedback_store.records import FinishReason
from serving.engine import PolicyRef, ReplyDelta, ReplyEnd, ReplyRequest
from serving.engine.detokenize import TextStream
from serving.engine.kv_slots import KVSlots
from serving.engine.sampling import choose_tokens

Sink = Callable[[ReplyDelta | ReplyEnd], None]
Decode = Callable[[Sequence[int]], str]


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

    @property
    def length(self) -> int:
        """Positions whose keys are stored: the prompt and all tokens but the newest."""
        return len(self.request.prompt_ids) + max(0, len(self.token_ids) - 1)


def new_row(request: ReplyRequest, sink: Sink, decode: Decode) -> Row:
    """A reply that has not begun."""
    return Row(request, sink, TextStream(decode, request.sampling.stop), random.Random(request.sampling.seed))


class GenerationBatch:
    """Continuous batching over one immutable model."""

    def __init__(
        self,
        model: Any,
        policy: PolicyRef,
        *,
        end_ids: frozenset[int],
        rows: int,
        max_positions: int,
        device: torch.device,
        prefill_tokens: int = 2048,
    ) -> None:
        self.policy = policy
        self.rows: list[Row] = []
        self._model, self._end_ids, self._device = model, end_ids, device
        self._capacity, self._prefill_tokens = rows, prefill_tokens
        self._slots = KVSlots(rows, max_positions, device)
        self._dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())

    @property
    def free_rows(self) -> int:
        """Replies that may still join."""
        return self._capacity - len(self.rows)

    def joinable(self, waiting: Sequence[Row]) -> int:
        """How many of `waiting`, in order, join in one prefill: bounded by free rows and by padded prompt tokens, so
        that streams under way do not stall for long. At least one when a row is free."""
        longest, count = 0, 0
        prompts: set[tuple[int, ...]] = set()
        for row in waiting[: self.free_rows]:
            prompts.add(row.request.prompt_ids)
            longest = max(longest, len(row.request.prompt_ids))
            if count and longest * len(prompts) > self._prefill_tokens:
                break
            count += 1
        return count

    @torch.inference_mode()
    def join(self, joining: Sequence[Row]) -> None:
        """Prefill the prompts of `joining` (equal prompts once) and draw the first token of each."""
        first: dict[tuple[int, ...], Row] = {}
        for row in joining:
            first.setdefault(row.request.prompt_ids, row)
        leaders = list(first.values())
        followers = [row for row in joining if first[row.request.prompt_ids] is not row]
        base = len(self.rows)
        logits_by_prompt = dict(zip(first, self._prefill(base, [list(prompt) for prompt in first]), strict=True))
        places = {row.request.prompt_ids: base + place for place, row in enumerate(leaders)}
        for place, row in enumerate(followers, start=base + len(leaders)):
            self._slots.copy_row(places[row.request.prompt_ids], place, len(row.request.prompt_ids))
        joined = [*leaders, *followers]
        self.rows.extend(joined)
        self._append(joined, torch.stack([logits_by_prompt[row.request.prompt_ids] for row in joined]))
        self._leave()

    @torch.inference_mode()
    def step(self) -> int:
        """Add one token to every reply; return how many were drawn."""
        self._leave()
        if not self.rows:
            return 0
        count = len(self.rows)
        tokens = torch.tensor([[row.token_ids[-1]] for row in self.rows], device=self._device)
        positions = torch.tensor([row.length for row in self.rows], device=self._device)
        self._slots.begin_decode(positions)
        hidden = torch.arange(self._slots.span, device=self._device)[None, :] > positions[:, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, float("-inf"))
        logits = self._forward(tokens, positions[:, None], mask[:, None, None, :])
        self._append(self.rows, logits)
        self._leave()
        return count

    def _prefill(self, first_row: int, prompts: list[list[int]]) -> torch.Tensor:
        """Run prompts of unequal length together, left-padded; return the logits after each [prompts, vocabulary]."""
        lengths = [len(prompt) for prompt in prompts]
        longest = max(lengths)
        padded = [[prompt[0]] * (longest - len(prompt)) + prompt for prompt in prompts]
        self._slots.begin_prefill(first_row, lengths)
        padding = longest - torch.tensor(lengths, device=self._device)
        index = torch.arange(longest, device=self._device)
        positions = (index[None, :] - padding[:, None]).clamp(min=0)
        seen = (index[None, None, :] <= index[None, :, None]) & (index[None, None, :] >= padding[:, None, None])
        seen |= torch.eye(longest, dtype=torch.bool, device=self._device)[None]  # padding sees itself: no empty softmax
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=self._device).masked_fill_(~seen, float("-inf"))
        return self._forward(torch.tensor(padded, device=self._device), positions, mask[:, None])

    def _forward(self, tokens: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        output = self._model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._slots,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1, :].float()
        return logits

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
        """End the replies that are done; fill each hole with the last row."""
        for place in range(len(self.rows) - 1, -1, -1):
            row = self.rows[place]
            reason = self._finish_reason(row)
            if reason is None:
                continue
            last = self.rows.pop()
            if last is not row:
                self._slots.copy_row(len(self.rows), place, last.length)
                self.rows[place] = last
            end_row(row, reason, self.policy)

    def _finish_reason(self, row: Row) -> FinishReason | None:
        if row.cancelled:
            return "cancelled"
        if row.token_ids[-1] in self._end_ids or row.text.stopped:
            return "stop"
        return "length" if len(row.token_ids) >= row.request.sampling.max_tokens else None


def end_row(row: Row, reason: FinishReason, policy: PolicyRef) -> None:
    """Send what was held back, then the end."""
    rest = row.text.finish()
    if rest:
        row.sink(ReplyDelta(rest))
    row.sink(ReplyEnd(reason, tuple(row.token_ids), row.logprob_nats, policy))
