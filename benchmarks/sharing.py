"""How much of the chat is left while a round trains on the same cores.

A real server with the bundled model, asked over HTTP by streams that each want one reply after the other: first alone,
then while a KTO round trains in its child process, as it does for a user with the embedded defaults (the engine gives
up a thread, the training process has the lowest priority). Tokens a second are those that the server says it has drawn.

    make bench-sharing ARGS="--streams 1,4,16 --seconds 20"
"""

import argparse
import asyncio
import os
import random
import statistics
import time
from pathlib import Path

import httpx

from benchmarks._product import Product, running_product
from benchmarks.report import Row, report
from benchmarks.serving import WORDS
from serving.engine.bundled_model import ensure_bundled_model
from thumbwise.client import AsyncThumbwise, Thumbwise

VOTES = 360
MOST_S = 120.0


def question(chance: random.Random) -> str:
    """Something to ask that was not asked before."""
    return f"Tell me about the {chance.choice(WORDS)}, the {chance.choice(WORDS)} and the {chance.choice(WORDS)}."


async def vote(product: Product, seed: int) -> None:
    """A small crowd chats and rates, enough for a round to train for minutes."""
    gate = asyncio.Semaphore(16)

    async def one(client: AsyncThumbwise, place: int) -> None:
        chance = random.Random(seed * VOTES + place)
        rater = f"rater-{place % 30}"
        async with gate:
            answer = await client.chat(question(chance), user=rater, max_tokens=48, temperature=1.0)
            assert answer.reply_id is not None
            await client.thumb(answer.reply_id, "up" if len(answer.text) % 2 else "down", rater=rater)

    async with AsyncThumbwise(product.url) as client, asyncio.TaskGroup() as tasks:
        for place in range(VOTES):
            tasks.create_task(one(client, place))


def drawn(product: Product) -> float:
    """Tokens that the engine has drawn since its start."""
    page = httpx.get(f"{product.url}/metrics", trust_env=False).text
    return next(
        float(line.split()[1]) for line in page.splitlines() if line.startswith("thumbwise_engine_tokens_total")
    )


async def tokens_per_s(product: Product, streams: int, seconds: float, seed: int) -> float:
    """Chat on `streams` streams for so long."""
    end_at = time.perf_counter() + seconds

    async def stream(place: int) -> None:
        chance = random.Random(1000 * seed + place)
        async with AsyncThumbwise(product.url) as client:
            while time.perf_counter() < end_at:
                await client.chat(question(chance), max_tokens=64, temperature=1.0)

    async with asyncio.TaskGroup() as tasks:
        for place in range(streams):
            tasks.create_task(stream(place))
        await asyncio.sleep(1)  # the first prompts are read by now
        began_at, before = time.perf_counter(), await asyncio.to_thread(drawn, product)
        await asyncio.sleep(end_at - time.perf_counter())
        return (await asyncio.to_thread(drawn, product) - before) / (time.perf_counter() - began_at)


def begin_round(admin: Thumbwise) -> int:
    """Start a KTO round and wait until its first step is done."""
    number = admin.start_round("kto", force=True).round_id
    give_up_at = time.monotonic() + MOST_S
    while not any(point.name == "loss" for point in admin.round_metrics(number)):
        if admin.round(number).ended or time.monotonic() > give_up_at:
            raise SystemExit(f"round {number} did not train: {admin.round(number).reason}")
        time.sleep(0.5)
    return number


def main() -> None:
    """Run, print, write benchmarks/results/sharing.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", default="1,4,16")
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = [int(count) for count in options.streams.split(",")]
    models = Path(os.environ.get("THUMBWISE_MODELS_DIR", ".models"))
    ensure_bundled_model(models)

    def chat(product: Product) -> dict[int, float]:
        found: dict[int, list[float]] = {}
        for repeat in range(options.repeats):
            for streams in counts:
                speed = asyncio.run(tokens_per_s(product, streams, options.seconds, options.seed + repeat))
                found.setdefault(streams, []).append(speed)
        return {streams: statistics.median(speeds) for streams, speeds in found.items()}

    with running_product(models) as product, Thumbwise(product.url, admin_token=product.admin_token) as admin:
        asyncio.run(vote(product, options.seed))
        alone = chat(product)
        number = begin_round(admin)
        beside = chat(product)
        found = admin.round(number)
        if found.state != "training":
            raise SystemExit(
                f"round {number} was {found.state} before the chat was measured: fewer --seconds or --repeats"
            )
        admin.cancel_round(number)
    report(
        "sharing",
        [
            Row(f"chat at {streams} stream{'s' if streams > 1 else ''} while a round trains (peer: alone)",
                beside[streams], alone[streams], unit="tok/s")
            for streams in counts
        ],
        "`thumbwise up` on embedded defaults, SmolLM2-135M-Instruct, over HTTP, replies of at most 64 tokens; a KTO "
        f"round on {VOTES} thumbs trains in its child process all the while. Median of {options.repeats} stretches of "
        f"{options.seconds:.0f} s. Peer: the same server before the round.",
        seed=options.seed,
    )  # fmt: skip


if __name__ == "__main__":
    main()
