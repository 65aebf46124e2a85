"""What a swap costs those who are reading a reply: the wait from token to token during 200 swaps, and before.

Streams draw without pause while versions are promoted and rolled back through the store's pointer, as an admin does it:
load beside, flip, drain, free. Compared are the waits between tokens of one reply (what a reader sees) with those of a
stretch without swaps in the same run, the memory before and after, and how long after a rollback was asked for the next
reply is of the former version. The first swaps are not counted: they fill the allocator's pools.

    make bench-swaps ARGS="--swaps 200 --streams 4"
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._adapters_made import sealed_policy
from benchmarks.report import Row, report
from benchmarks.serving import percentile, prompts_of
from feedback_store import versions
from feedback_store.connection import Connection
from feedback_store.records import Sampling
from feedback_store.settings import StoreSettings
from feedback_store.store import Store
from serving.engine import PolicyRef, ReplyDelta, ReplyRequest
from serving.engine.bundled_model import ensure_bundled_model
from serving.engine.torch_engine import TorchEngine
from serving.engine.weights import BaseWeights
from serving.policies import PolicyFollower
from serving.settings import PolicySettings, ServingSettings

TOKENS = 96
WARM_SWAPS = 20


@dataclass(slots=True)
class Reading:
    """What the readers saw in one stretch."""

    gaps_s: list[float] = field(default_factory=list)
    replies: int = 0
    broken: int = 0
    tokens: int = 0


def memory_mib() -> float:
    """Proportional set size: pages of a mapped file that several share count once."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/smaps_rollup names no Pss")


async def read_on(
    engine: TorchEngine, prompts: list[tuple[int, ...]], streams: int, going: Callable[[], bool]
) -> Reading:
    """Draw replies on `streams` streams while `going`; return every gap between two pieces of a reply."""
    reading = Reading()

    async def stream(place: int) -> None:
        turn = place
        while going():
            request = ReplyRequest(prompts[turn % len(prompts)], Sampling(temperature=0, max_tokens=TOKENS))
            seen_at = None
            async for item in engine.start(request):
                now = time.perf_counter()
                if isinstance(item, ReplyDelta):
                    if seen_at is not None:
                        reading.gaps_s.append(now - seen_at)
                    seen_at = now
                else:
                    reading.replies += 1
                    reading.tokens += len(item.token_ids)
                    reading.broken += item.finish_reason == "cancelled"
            turn += streams

    async with asyncio.TaskGroup() as tasks:
        for place in range(streams):
            tasks.create_task(stream(place))
    return reading


def while_reading(
    engine: TorchEngine, prompts: list[tuple[int, ...]], streams: int, work: Callable[[], None]
) -> Reading:
    """Run `work` in a thread of its own while the streams draw; both end with it."""

    async def run() -> Reading:
        task = asyncio.get_running_loop().run_in_executor(None, work)
        reading = await read_on(engine, prompts, streams, lambda: not task.done())
        await task
        return reading

    return asyncio.run(run())


def _candidate(store: Store, base_model: str, policy: PolicyRef) -> int:
    """Note a sealed adapter as a version; return its number."""

    def add(connection: Connection) -> int:
        assert policy.adapter_sha256 is not None
        return versions.add_candidate(
            connection,
            base_model=base_model,
            adapter_sha256=policy.adapter_sha256,
            parent=1,
            method=None,
            round_id=None,
            gate_report=None,
            metrics={},
        ).version

    return store.write(add)


def _promote(store: Store, follower: PolicyFollower, version: int) -> None:
    """As POST /v1/versions/N/promote does: load beside, move the pointer, follow."""
    follower.prepare(version)
    store.write(versions.promote, version, actor="bench", reason="a swap")
    follower.pointer_moved()


def _roll_back(store: Store, follower: PolicyFollower) -> float:
    """As POST /v1/rollback does; return the seconds from the request until new replies are of the former version."""
    asked_at = time.perf_counter()
    follower.prepare(store.read(versions.rollback_target))
    store.write(versions.rollback, actor="bench", reason="a swap")
    follower.pointer_moved()
    return time.perf_counter() - asked_at


def main() -> None:
    """Run, print, write benchmarks/results/swaps.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two swaps")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = ensure_bundled_model(Path(os.environ.get("THUMBWISE_MODELS_DIR", ".models")))
    with tempfile.TemporaryDirectory(prefix="thumbwise-bench-") as scratch:
        measure(options, model, Path(scratch))


def measure(options: argparse.Namespace, model: Path, work: Path) -> None:
    """Two adapters over one base: the second is promoted, rolled back to the first, and so on."""
    policies = [sealed_policy(work, model, version=2 + place, seed=place, rank=8, size=0.02) for place in range(2)]
    base = BaseWeights(model, PolicySettings())
    base.end_ids = frozenset()
    engine = TorchEngine(base, ServingSettings(max_batch=max(4, options.streams)), PolicyRef(1))
    store = Store.open(f"sqlite:///{work / 'thumbwise.db'}", settings=StoreSettings())
    follower = PolicyFollower(store, engine, work / "adapters")
    prompts = prompts_of(model, 4 * options.streams, options.seed)
    try:
        store.write(versions.bootstrap, base.fingerprint)
        first, second = (_candidate(store, base.fingerprint, policy) for policy in policies)
        follower.start()
        _promote(store, follower, first)
        visible_s: list[float] = []

        def swap(count: int) -> None:
            for turn in range(count):
                if turn % 2 == 0:
                    _promote(store, follower, second)
                else:
                    visible_s.append(_roll_back(store, follower))
                time.sleep(options.pause)

        while_reading(engine, prompts, options.streams, lambda: swap(WARM_SWAPS))
        before_mib = memory_mib()
        began_at = time.perf_counter()
        swapping = while_reading(engine, prompts, options.streams, lambda: swap(options.swaps))
        took_s = time.perf_counter() - began_at
        after_mib = memory_mib()
        idle = while_reading(engine, prompts, options.streams, lambda: time.sleep(min(took_s, 60)))
    finally:
        follower.close()
        engine.close(10)
        store.close()
    rows = [
        Row(f"{share} of the waits for the next token within, during swaps (peer: no swaps)",
            1000 * percentile(swapping.gaps_s, value), 1000 * percentile(idle.gaps_s, value), unit="ms")
        for share, value in (("half", 0.5), ("99 %", 0.99), ("99.9 %", 0.999))
    ]  # fmt: skip
    rows += [
        Row("tokens a second (peer: no swaps)", swapping.tokens / took_s, idle.tokens / min(took_s, 60), unit="tok/s"),
        Row("replies broken off", swapping.broken, idle.broken, unit="replies"),
        Row("memory after the swaps (peer: before)", after_mib, before_mib, unit="MiB"),
        Row("a rollback until new replies are of the former version, worst", 1000 * max(visible_s), unit="ms"),
    ]
    report(
        "swaps",
        rows,
        f"{options.swaps} swaps between rank-8 adapters of SmolLM2-135M-Instruct under {options.streams} streams, "
        f"{len(swapping.gaps_s):,} waits; a pointer moved in SQLite, weights built beside; every second one is a "
        f"rollback. Peer: the same streams without swaps, right after. {WARM_SWAPS} swaps before are not "
        "counted.",
        seed=options.seed,
    )


if __name__ == "__main__":
    main()
