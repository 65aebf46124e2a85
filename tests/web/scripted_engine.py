"""An engine without a model: what it replies is written in the message, so that a browser test says what it needs.

"echo: TEXT" replies TEXT · "slowly" goes on until it is stopped · "queue full" has no place · "cut off" ends by length
· anything else gets a numbered reply, so that the two of a comparison differ. Once `gate` is cleared, replies wait for
it after their first word.
"""

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator

from feedback_store.records import FinishReason, Message
from serving.engine import PolicyRef, QueueFull, ReplyDelta, ReplyEnd, ReplyRequest

STEP_S = 0.005


class ScriptedStream:
    """One scripted reply."""

    def __init__(self, policy: PolicyRef, text: str, finish_reason: FinishReason, gate: threading.Event) -> None:
        self.policy = policy
        self._text, self._finish_reason, self._gate = text, finish_reason, gate
        self._cancelled = False

    async def __aiter__(self) -> AsyncIterator[ReplyDelta | ReplyEnd]:
        words = self._text.split(" ")
        endless = self._finish_reason == "cancelled"
        written = 0
        for index, word in enumerate(itertools.cycle(words) if endless else words):
            if self._cancelled:
                break
            yield ReplyDelta(word if index == 0 else " " + word)
            written += 1
            await asyncio.sleep(STEP_S)
            while not self._gate.is_set() and not self._cancelled:
                await asyncio.sleep(STEP_S)
        reason: FinishReason = "cancelled" if self._cancelled else self._finish_reason
        yield ReplyEnd(reason, tuple(range(written)), -1.0 * written, self.policy)

    def cancel(self) -> None:
        self._cancelled = True


class ScriptedEngine:
    """Serves one policy; see the module's docstring."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.policy = PolicyRef(1)
        self._numbers = itertools.count(1)

    def render(self, messages: tuple[Message, ...]) -> tuple[str, tuple[int, ...]]:
        rendered = json.dumps(messages)
        return rendered, tuple(rendered.encode())

    def start(self, request: ReplyRequest) -> ScriptedStream:
        messages: list[Message] = json.loads(bytes(request.prompt_ids))
        asked = messages[-1]["content"]
        if "queue full" in asked:
            raise QueueFull(retry_after_s=2)
        if "slowly" in asked:
            return ScriptedStream(self.policy, "and on", "cancelled", self.gate)
        text = asked.partition("echo: ")[2] or f"This is reply {next(self._numbers)} after {len(messages)} messages."
        return ScriptedStream(self.policy, text, "length" if "cut off" in asked else "stop", self.gate)

    def load(self, policy: PolicyRef) -> None:
        self.policy = policy

    def make_live(self, version: int, canary: int | None = None) -> None:
        self.policy = PolicyRef(version)

    @property
    def live(self) -> PolicyRef:
        return self.policy

    @property
    def loaded_versions(self) -> dict[int, int]:
        return {self.policy.version: 0}

    def close(self, drain_timeout_s: float) -> None:
        self.gate.set()
