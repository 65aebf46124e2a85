"""Other ways to serve the same model and adapter on this machine, under the same load as ours.

- `Generate`: transformers' own `generate`, one batch after the other, the adapter merged or as peft runs it.
- `ContinuousBatching`: transformers' scheduler over paged attention, the adapter merged.
- `Vllm`: an OpenAI server of vLLM, asked over HTTP, the adapter loaded by name.

All draw greedily and to the full length.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks._serving_ours import Load
from benchmarks._vllm_server import VllmServer
from serving.engine.base_model import load_model

Prompts = list[tuple[int, ...]]


def adapted_model(model: Path, adapter: Path, dtype: torch.dtype, device: torch.device, *, merge: bool) -> Any:
    """The base model with an adapter, as transformers and peft run it."""
    from peft import PeftModel

    if not merge:
        return PeftModel.from_pretrained(load_model(model, dtype), adapter).to(device).eval()
    # Merged in float32 and rounded once, as ours is.
    merged = PeftModel.from_pretrained(load_model(model, torch.float32), adapter).merge_and_unload()
    return merged.to(dtype).to(device).eval()


class Generate:
    """transformers' `generate` on batches as large as there are streams."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        model.generation_config.pad_token_id = 0

    @torch.inference_mode()
    def under_load(self, prompts: Prompts, streams: int, tokens: int) -> Load:
        """The first token is timed apart, by a batch that draws no other: a batch's caller sees nothing earlier."""
        load = Load()
        began_at = time.perf_counter()
        for start in range(0, len(prompts), streams):
            load.tokens += self._draw(prompts[start : start + streams], tokens)
        load.seconds = time.perf_counter() - began_at
        for start in range(0, len(prompts), streams):
            began_at = time.perf_counter()
            batch = prompts[start : start + streams]
            self._draw(batch, 1)
            load.first_token_s += [time.perf_counter() - began_at] * len(batch)
        return load

    def _draw(self, batch: Prompts, tokens: int) -> int:
        ids = torch.tensor(batch, device=self._device)
        drawn = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
        )
        return int(drawn.shape[0] * (drawn.shape[1] - ids.shape[1]))


class ContinuousBatching:
    """transformers' continuous batching, kept running between the replies of one load."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def under_load(self, prompts: Prompts, streams: int, tokens: int) -> Load:
        """Hand in a prompt whenever a reply has ended, so that `streams` are under way."""
        from transformers import GenerationConfig
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        load = Load()
        config = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
        batching = ContinuousBatchingConfig(
            page_size=32, num_blocks=16 * streams, max_batch_tokens=1024, allow_block_sharing=False
        )
        with self._model.continuous_batching_context_manager(
            generation_config=config, continuous_batching_config=batching, block=True, timeout=5, warmup=False
        ) as manager:
            left = list(reversed(prompts))
            asked_at: dict[str, float] = {}

            def ask() -> None:
                name = manager.add_request(list(left.pop()), max_new_tokens=tokens, streaming=True)
                asked_at[name] = time.perf_counter()

            began_at = time.perf_counter()
            for _ in range(min(streams, len(left))):
                ask()
            seen: set[str] = set()
            ended = 0
            while ended < len(prompts):
                result = manager.get_result(timeout=5)
                if result is None:
                    if not manager.is_running():
                        raise RuntimeError("transformers' continuous batching ended by itself")
                    continue
                if result.request_id not in seen:
                    seen.add(result.request_id)
                    load.first_token_s.append(time.perf_counter() - asked_at[result.request_id])
                if result.is_finished():
                    ended += 1
                    load.tokens += len(result.generated_tokens)
                    if left:
                        ask()
            load.seconds = time.perf_counter() - began_at
        return load


class Vllm:
    """A vLLM server on this machine, asked for its adapter's name."""

    def __init__(self, server: VllmServer, adapter: str) -> None:
        self._server, self._adapter = server, adapter

    def under_load(self, prompts: Prompts, streams: int, tokens: int) -> Load:
        """As ours is asked, over HTTP."""
        return asyncio.run(self._drive(prompts, streams, tokens))

    async def _drive(self, prompts: Prompts, streams: int, tokens: int) -> Load:
        load = Load()
        left = list(reversed(prompts))

        async def stream(client: httpx.AsyncClient) -> None:
            while left:
                body = {
                    "model": self._adapter,
                    "prompt": list(left.pop()),
                    "max_tokens": tokens,
                    "temperature": 0,
                    "ignore_eos": True,
                    "stream": True,
                    "stream_options": {"include_usage": True},
                }
                asked_at, waits = time.perf_counter(), True
                async with client.stream("POST", f"{self._server.url}/v1/completions", json=body) as answer:
                    answer.raise_for_status()
                    async for line in answer.aiter_lines():
                        if not line.startswith("data: {"):
                            continue
                        event = json.loads(line.removeprefix("data: "))
                        if waits and event["choices"]:
                            load.first_token_s.append(time.perf_counter() - asked_at)
                            waits = False
                        if event.get("usage"):
                            load.tokens += event["usage"]["completion_tokens"]

        began_at = time.perf_counter()
        async with httpx.AsyncClient(trust_env=False, timeout=600) as client, asyncio.TaskGroup() as tasks:
            for _ in range(streams):
                tasks.create_task(stream(client))
        load.seconds = time.perf_counter() - began_at
        return load
