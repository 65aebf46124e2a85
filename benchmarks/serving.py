"""Tokens a second and first tokens of the embedded engine, beside other ways to serve the same policy here.

Every server holds SmolLM2-135M-Instruct with the same rank-8 adapter. A number of streams each ask for one greedy reply
after the other; all replies are drawn to their full length, prompts (45 tokens each, no two alike beyond the chat
template's own beginning) included in the time. The first token's time is that of the worst case: all streams ask at
once. What the machine could do at best stands below: memory read and matrix products, and our share of both.

    make bench-serving                                   all peers that are installed here (about ten minutes)
    make bench-serving ARGS="--peers generate --repeats 1"
    scripts/vllm.sh                                      puts vLLM into .vllm/, in an environment of its own
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from benchmarks._adapters_made import sealed_policy
from benchmarks._serving_ours import Load, open_engine, under_load
from benchmarks._serving_peers import ContinuousBatching, Generate, Prompts, Vllm, adapted_model
from benchmarks._vllm_server import VllmServer, free_port, python_with_vllm, view_of
from benchmarks.report import Row, report
from serving.engine import PolicyRef
from serving.engine.base_model import choose_device, choose_dtype, load_tokenizer
from serving.engine.bundled_model import ensure_bundled_model
from serving.engine.prompts import PromptRenderer
from serving.settings import PolicySettings

PROMPT_TOKENS = 45
WORDS = [
    "river",
    "lamp",
    "bread",
    "garden",
    "window",
    "train",
    "sailor",
    "candle",
    "forest",
    "market",
    "bridge",
    "winter",
    "paper",
    "engine",
    "island",
    "mirror",
    "kitchen",
    "thunder",
    "pocket",
    "ladder",
    "orchard",
    "violin",
    "harbour",
    "blanket",
    "copper",
    "feather",
]
PEERS = {
    "generate": "transformers generate, adapter merged",
    "unmerged": "transformers generate, adapter unmerged (peft)",
    "continuous": "transformers continuous batching, adapter merged",
    "vllm": "vLLM, adapter loaded",
}


class Server(Protocol):
    """Whatever draws the replies."""

    def under_load(self, prompts: Prompts, streams: int, tokens: int) -> Load: ...


class Ours:
    """The embedded engine; a fresh one each time, so that no run finds the prompts of another in the cache."""

    def __init__(self, model: Path, policy: PolicyRef, dtype: str, threads: int) -> None:
        self._open = partial(open_engine, model, policy, dtype=dtype, threads=threads)

    def under_load(self, prompts: Prompts, streams: int, tokens: int) -> Load:
        """See Server."""
        engine = self._open(rows=max(streams, 4))
        try:
            under_load(engine, prompts[:1], 1, 8)  # the first step builds the kernels and reserves the cache
            return under_load(engine, prompts, streams, tokens)
        finally:
            engine.close(5)


def prompts_of(model: Path, count: int, seed: int) -> Prompts:
    """`count` different prompts of exactly PROMPT_TOKENS tokens each, in the chat template."""
    import random

    chance = random.Random(seed)
    renderer = PromptRenderer(load_tokenizer(model), "")
    found: Prompts = []
    while len(found) < count:
        words = [chance.choice(WORDS)]
        while True:
            ids = renderer.render(({"role": "user", "content": " ".join(words) + "?"},))[1]
            if len(ids) >= PROMPT_TOKENS:
                break
            words.append(chance.choice(WORDS))
        if len(ids) == PROMPT_TOKENS:
            found.append(ids)
    return found


def machine_limits(threads: int, dtype: torch.dtype) -> tuple[float, float]:
    """(memory read in GB/s, matrix products in GFLOP/s), the best of several, with `threads` threads."""
    torch.set_num_threads(threads)
    block = torch.ones(2**27)
    reads, products = [], []
    left, right = torch.randn(2048, 2048, dtype=dtype), torch.randn(2048, 2048, dtype=dtype)
    for _ in range(5):
        began_at = time.perf_counter()
        torch.sum(block)
        reads.append(block.nbytes / (time.perf_counter() - began_at) / 1e9)
        began_at = time.perf_counter()
        torch.mm(left, right)
        products.append(2 * 2048**3 / (time.perf_counter() - began_at) / 1e9)
    return max(reads), max(products)


def percentile(values: list[float], share: float) -> float:
    """The value below or at which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@contextmanager
def at_work(server: Server, pause: dict[int, Callable[[bool], None]]) -> Iterator[None]:
    """Let a server that is a process of its own run only while it is asked."""
    wake = pause.get(id(server))
    if wake is None:
        yield
        return
    wake(True)
    try:
        yield
    finally:
        wake(False)


def open_vllm(
    model: Path, policy: PolicyRef, dtype: str, work: Path, parts: ExitStack
) -> tuple[Vllm, Callable[[bool], None]]:
    """Start vLLM with the adapter; return it and what stops and continues its processes."""
    python = python_with_vllm()
    assert python is not None and policy.adapter_dir is not None
    server = VllmServer(python, view_of(model, work / "view"), work / "vllm.log", free_port(), dtype)
    server.start()
    parts.callback(server.kill)
    server.load_adapter("policy", policy.adapter_dir)
    process = server.process
    assert process is not None

    def wake(awake: bool) -> None:
        os.killpg(process.pid, signal.SIGCONT if awake else signal.SIGSTOP)

    parts.callback(wake, True)
    return Vllm(server, "policy"), wake


def main() -> None:
    """Run, print, write benchmarks/results/serving.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", default="1,4,16")
    parser.add_argument("--repeats", type=int, default=3, help="of everything, interleaved; the median counts")
    parser.add_argument("--replies", type=int, default=2, help="each stream asks for")
    parser.add_argument("--tokens", type=int, default=64, help="of a reply")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wanted = [name for name in options.peers.split(",") if name]
    unknown = set(wanted) - PEERS.keys()
    if unknown:
        parser.error(f"--peers names {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if "vllm" in wanted and python_with_vllm() is None:
        print("vLLM is left out: scripts/vllm.sh puts it into .vllm/", file=sys.stderr)
        wanted.remove("vllm")
    with tempfile.TemporaryDirectory(prefix="thumbwise-bench-") as scratch, ExitStack() as parts:
        measure(options, wanted, Path(scratch), parts)


def measure(options: argparse.Namespace, wanted: list[str], work: Path, parts: ExitStack) -> None:
    """Open all servers, run every case in turn, report."""
    model = ensure_bundled_model(Path(os.environ.get("THUMBWISE_MODELS_DIR", ".models")))
    settings = PolicySettings(dtype=options.dtype)
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    policy = sealed_policy(work, model, version=2, seed=options.seed, rank=8, size=0.02)
    assert policy.adapter_dir is not None
    servers: dict[str, Server] = {"ours": Ours(model, policy, options.dtype, options.threads)}
    pause: dict[int, Callable[[bool], None]] = {}
    for name in wanted:
        print(f"opening {PEERS[name]}", file=sys.stderr)
        if name == "vllm":
            servers[name], wake = open_vllm(model, policy, str(dtype).removeprefix("torch."), work, parts)
            pause[id(servers[name])] = wake
            wake(False)
        elif name == "continuous":
            merged = adapted_model(model, policy.adapter_dir, dtype, device, merge=True)
            merged.set_attn_implementation("paged|sdpa")
            servers[name] = ContinuousBatching(merged)
        else:
            merge = name == "generate"
            servers[name] = Generate(adapted_model(model, policy.adapter_dir, dtype, device, merge=merge), device)
    counts = [int(count) for count in options.streams.split(",")]
    torch.set_num_threads(options.threads)
    loads: dict[tuple[str, int], list[Load]] = {}
    for repeat in range(options.repeats + 1):
        for streams in counts:
            prompts = prompts_of(model, streams * options.replies, seed=1000 * options.seed + 10 * repeat + streams)
            for name, server in servers.items():
                with at_work(server, pause):
                    if repeat == 0:  # compiles, reserves and fills what each needs, and is thrown away
                        server.under_load(prompts[:streams], streams, 8)
                        continue
                    load = server.under_load(prompts, streams, options.tokens)
                print(f"{repeat}/{options.repeats} {name} at {streams}: {load.tokens_per_s:.0f} tok/s", file=sys.stderr)
                loads.setdefault((name, streams), []).append(load)
    read_gb_s, product_gflops = machine_limits(options.threads, dtype)
    rows = rows_of(loads, counts, wanted)
    rows += limit_rows(loads, counts, model, dtype, read_gb_s, product_gflops)
    report(
        "serving" if options.threads == os.cpu_count() else f"serving-{options.threads}-threads",
        rows,
        f"SmolLM2-135M-Instruct, {str(dtype).removeprefix('torch.')}, a rank-8 adapter, {options.threads} threads; "
        f"greedy replies of {options.tokens} tokens to prompts of {PROMPT_TOKENS}, prompts included in the time; each "
        f"stream asks {options.replies} times in a row. Median of {options.repeats} interleaved runs after a short "
        "one that is not counted. generate draws batch by batch: its caller sees nothing before the batch ends; its "
        "first token is that of a batch that draws no other.",
        seed=options.seed,
    )


def rows_of(loads: dict[tuple[str, int], list[Load]], counts: list[int], peers: list[str]) -> list[Row]:
    """Tokens a second against each peer, then first tokens."""

    def speed(name: str, streams: int) -> float:
        return statistics.median(load.tokens_per_s for load in loads[name, streams])

    def first_ms(name: str, streams: int) -> float:
        return statistics.median(1000 * percentile(load.first_token_s, 0.95) for load in loads[name, streams])

    rows = []
    for said, unit, value in (("{} streams", "tok/s", speed), ("first token (p95) at {} streams", "ms", first_ms)):
        for streams in counts:
            case = said.format(streams) if streams > 1 else said.format(streams).removesuffix("s")
            rows += [
                Row(f"{case}; {PEERS[name]}", value("ours", streams), value(name, streams), unit=unit) for name in peers
            ]
            if not peers:
                rows.append(Row(case, value("ours", streams), unit=unit))
    return rows


def limit_rows(
    loads: dict[tuple[str, int], list[Load]],
    counts: list[int],
    model: Path,
    dtype: torch.dtype,
    read_gb_s: float,
    product_gflops: float,
) -> list[Row]:
    """What this machine could do: a step reads all weights once, a token multiplies by each of them once."""
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", framework="pt") as file:
        numbers = 0
        for name in file.keys():  # noqa: SIM118 - no mapping, it only looks like one
            count = 1
            for size in file.get_slice(name).get_shape():
                count *= size
            numbers += count
    rows = []
    for streams in counts:
        ours = statistics.median(load.tokens_per_s for load in loads["ours", streams])
        by_memory = streams * read_gb_s * 1e9 / (numbers * dtype.itemsize)
        by_products = product_gflops * 1e9 / (2 * numbers)
        bound = min(by_memory, by_products)
        by = "memory read" if by_memory < by_products else "matrix products"
        rows.append(Row(f"our share of the bound at {streams} ({by}), decoding alone", ours, bound, unit="tok/s"))
    rows.append(Row("memory read", read_gb_s, unit="GB/s"))
    rows.append(Row("matrix products", product_gflops, unit="GFLOP/s"))
    return rows


if __name__ == "__main__":
    main()
