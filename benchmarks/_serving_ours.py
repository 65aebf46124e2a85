"""Our engine under a number of streams that each ask for one reply after the other: tokens a second, first tokens."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from feedback_store.records import Sampling
from serving.engine import PolicyRef, ReplyDelta, ReplyRequest
from serving.engine.torch_engine import TorchEngine
from serving.engine.weights import BaseWeights
from serving.settings import PolicySettings, ServingSettings


@dataclass(slots=True)
class Load:
    """What a run under load showed."""

    tokens: int = 0
    seconds: float = 0.0
    first_token_s: list[float] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        """Tokens of all streams over the wall time, prompts included in the time."""
        return self.tokens / self.seconds


def open_engine(model: Path, policy: PolicyRef, *, dtype: str, threads: int, rows: int) -> TorchEngine:
    """An engine that draws every reply to its full length, so that all who are compared draw as many tokens."""
    base = BaseWeights(model, PolicySettings.model_validate({"dtype": dtype, "device": "auto"}))
    base.end_ids = frozenset()
    engine = TorchEngine(base, ServingSettings(max_batch=rows, queue_limit=4 * rows), policy)
    engine.use_threads(threads)
    return engine


def under_load(engine: TorchEngine, prompts: list[tuple[int, ...]], streams: int, tokens: int) -> Load:
    """Draw a greedy reply of `tokens` for each prompt, `streams` at a time."""
    return asyncio.run(_drive(engine, prompts, streams, tokens))


async def _drive(engine: TorchEngine, prompts: list[tuple[int, ...]], streams: int, tokens: int) -> Load:
    load = Load()
    left = list(reversed(prompts))
    sampling = Sampling(temperature=0, max_tokens=tokens)

    async def stream() -> None:
        while left:
            request = ReplyRequest(left.pop(), sampling)
            asked_at = time.perf_counter()
            waits = True
            async for item in engine.start(request):
                if isinstance(item, ReplyDelta):
                    if waits:
                        load.first_token_s.append(time.perf_counter() - asked_at)
                        waits = False
                else:
                    load.tokens += len(item.token_ids)

    began_at = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(streams):
            tasks.create_task(stream())
    load.seconds = time.perf_counter() - began_at
    return load
