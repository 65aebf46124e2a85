"""How long a round takes from its trigger to the reply that the new version gives, with people chatting all the while.

A real server on embedded defaults. A crowd chats and gives so many thumbs, evenly, so that each of them counts; then an
admin asks for a KTO round and the clock starts. It stops when somebody who chats is answered by the new version: after
selection, training, gate and swap. All the time clients stream replies, one after the other, and none may fail; how
long each waited for its first words is compared with the same clients before the round.

    make bench-round_time                                    200 thumbs, as promised: at most ten minutes on two cores
    make bench-round_time ARGS="--thumbs 24 --small"         a quick look, which proves nothing
"""

import argparse
import asyncio
import math
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks._product import Product, running_product
from benchmarks.report import Row, report
from serving.engine.bundled_model import ensure_bundled_model
from thumbwise.client import Answer, AsyncThumbwise, Round, StreamPiece, ThumbwiseError
from thumbwise.demo.crowd import Crowd, CrowdPlan
from thumbwise.demo.prompts import fresh_prompts, train_prompts
from thumbwise.demo.raters import SeenReply

PROMISED_MIN = 10.0
RATERS = 40
REPLY_TOKENS = 96
CHAT_TOKENS = 48
PAUSE_S = 1.0
"""What somebody reads before they write again."""
MOST_S = 3600.0
LOOK_S = 0.5
SMALL: dict[str, str | int | float | bool] = {
    "training.epochs": 0.5, "gate.replies": 8, "gate.reply_tokens": 16, "gate.doublings": 0, "gate.min_replies": 4,
    "gate.probe_prompts": 2, "gate.min_probe_prompts": 1, "gate.held_out_auc": 0.0, "gate.min_held_out_votes": 2,
    "gate.max_short_rise": 1.0, "gate.max_empty": 1.0, "gate.max_repeat_rise": 1.0, "gate.min_distinct_ratio": 0.0,
    "gate.max_same_opening": 1.0, "gate.max_phrase_share": 1.0, "gate.max_over_refusal_rise": 1.0,
    "gate.max_compliance_rise": 1.0, "gate.max_agreement_rise": 1.0, "gate.max_praise_rise": 1.0,
    "gate.max_choice_drop": 1.0, "gate.max_insults_rise": 1.0, "gate.max_language_flip": 1.0,
    "gate.max_truncated_jump": 1.0, "gate.max_length_factor": 100.0,
}  # fmt: skip
"""A gate that lets through whatever has two held-out votes of both kinds: for looking at this benchmark itself."""


@dataclass(slots=True)
class Chatters:
    """Clients that stream one reply after the other until they are told to stop."""

    url: str
    first_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    replies: int = 0
    heard_at: dict[int, float] = field(default_factory=dict)
    """Version → when it first answered somebody."""

    async def chat(self, number: int, until: asyncio.Event) -> None:
        """One client."""
        prompts, turn = fresh_prompts(), number * 17
        async with AsyncThumbwise(self.url) as client:
            while not until.is_set():
                await self._ask(client, prompts[turn % len(prompts)], f"chatter-{number}")
                turn += 1
                await asyncio.sleep(PAUSE_S)

    async def _ask(self, client: AsyncThumbwise, prompt: str, user: str) -> None:
        began_at, first, version = time.perf_counter(), None, 0
        try:
            async for piece in client.stream(prompt, user=user, max_tokens=CHAT_TOKENS, temperature=1.0):
                if isinstance(piece, StreamPiece):
                    first = first or time.perf_counter() - began_at
                else:
                    version = piece.policy_version
        except ThumbwiseError as error:
            self.failures.append(str(error))
            return
        self.replies += 1
        if first is not None:
            self.first_s.append(first)
        self.heard_at.setdefault(version, time.perf_counter())


@dataclass(slots=True)
class Timed:
    """A round, and how long it took in seconds. `live_s`: until somebody was answered by its version; None: nobody was,
    since the gate did not let it through. `parts_s`: by state, how long it was seen in it."""

    found: Round
    ended_s: float
    live_s: float | None
    parts_s: dict[str, float]


async def give_thumbs(product: Product, count: int, seed: int) -> tuple[int, int]:
    """Careful readers rate so many replies, a few each; return how many are up and down."""
    plan = CrowdPlan(raters=RATERS, careful_share=1.0, lazy_share=0.0, left_leaning_share=0.0)
    raters, prompts, gate = Crowd(plan, seed).raters, train_prompts(), asyncio.Semaphore(24)
    async with AsyncThumbwise(product.url, timeout=httpx.Timeout(30.0, read=600.0, pool=None)) as client:

        async def ask(place: int) -> Answer:
            async with gate:
                prompt, rater = prompts[place % len(prompts)], raters[place % RATERS]
                seed_of = seed * count + place
                return await client.chat(
                    prompt, user=rater.name, max_tokens=REPLY_TOKENS, temperature=1.0, seed=seed_of
                )

        answers = await asyncio.gather(*(ask(place) for place in range(count)))
        dice, ups = random.Random(f"thumbs {seed}"), 0
        for place, answer in enumerate(answers):
            rater = raters[place % RATERS]
            thumb = rater.thumb(SeenReply(answer.text, answer.choices[0].finish_reason), dice)
            await client.thumb(str(answer.reply_id), thumb, rater=rater.name)
            ups += thumb == "up"
    return ups, count - ups


async def timed_round(product: Product, chatters: Chatters, *, force: bool) -> Timed:
    """Ask for a round and follow it until its version has answered somebody, or it ended without one."""
    parts: dict[str, float] = {}
    async with AsyncThumbwise(product.url, product.admin_token) as admin:
        began_at = seen_at = time.perf_counter()
        number = (await admin.start_round("kto", force=force)).round_id
        while not (found := await admin.round(number)).ended:
            now = time.perf_counter()
            parts[found.state], seen_at = parts.get(found.state, 0.0) + now - seen_at, now
            if now - began_at > MOST_S:
                raise SystemExit(f"round {number} is {found.state} after {MOST_S:.0f} s")
            await asyncio.sleep(LOOK_S)
        ended_at = time.perf_counter()
        live = int((await admin.status())["live"]["version"])
    if found.candidate_version is None or live != found.candidate_version:
        return Timed(found, ended_at - began_at, None, parts)
    while (heard_at := chatters.heard_at.get(live)) is None:
        if time.perf_counter() - ended_at > MOST_S:
            raise SystemExit(f"version {live} is live and answers nobody")
        await asyncio.sleep(LOOK_S)
    return Timed(found, ended_at - began_at, heard_at - began_at, parts)


async def measure(product: Product, options: argparse.Namespace) -> tuple[Timed, Chatters, Chatters]:
    """The crowd's thumbs, then the chat alone, then the chat beside the round."""
    ups, downs = await give_thumbs(product, options.thumbs, options.seed)
    print(f"{ups} thumbs up, {downs} down", flush=True)
    alone, beside = Chatters(product.url), Chatters(product.url)
    async with chatting(alone, options.streams):
        await asyncio.sleep(options.alone_s)
    async with chatting(beside, options.streams):
        timed = await timed_round(product, beside, force=options.small)
    return timed, alone, beside


@asynccontextmanager
async def chatting(chatters: Chatters, streams: int) -> AsyncIterator[None]:
    """So many clients chat until the block ends, and finish the reply that they are at."""
    until = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(streams):
            tasks.create_task(chatters.chat(number, until))
        try:
            yield
        finally:
            until.set()


def rows_of(timed: Timed, alone: Chatters, beside: Chatters, thumbs: int) -> list[Row]:
    """The table; the peer of the time is what was promised, that of the chat the chat before the round."""
    gate = (timed.found.gate_report or {}).get("outcome", "not reached")
    whole_s = timed.ended_s if timed.live_s is None else timed.live_s
    end = "its end, nothing went live" if timed.live_s is None else "the new version's first reply"
    rows = [Row(f"a KTO round over {thumbs} thumbs, gate {gate}: from its trigger to {end}", whole_s / 60,
                PROMISED_MIN, unit="min")]  # fmt: skip
    rows += [Row(f"… {state}", seconds / 60, unit="min") for state, seconds in timed.parts_s.items()]
    rows.append(Row(f"requests that failed meanwhile, of {beside.replies + len(beside.failures)}",
                    len(beside.failures), len(alone.failures), unit="requests"))  # fmt: skip
    for name, share in (("half of the replies began", 0.5), ("95 % of the replies began", 0.95), ("the slowest", 1.0)):
        rows.append(Row(f"wait for the first words: {name} within", quantile(beside.first_s, share),
                        quantile(alone.first_s, share), unit="s"))  # fmt: skip
    return rows


def quantile(values: list[float], share: float) -> float:
    """The least value that this share of them do not exceed."""
    if not values:
        raise SystemExit("nobody was answered: there is no wait to tell")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def main() -> None:
    """Run, print, write benchmarks/results/round_time.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thumbs", type=int, default=200)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--alone-s", type=float, default=60.0, help="how long the chat is measured before the round")
    parser.add_argument("--small", action="store_true", help="an easy gate and half an epoch, by force")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    models = Path(os.environ.get("THUMBWISE_MODELS_DIR", ".models"))
    ensure_bundled_model(models)
    with running_product(models, settings=SMALL if options.small else None) as product:
        timed, alone, beside = asyncio.run(measure(product, options))
    for failure in beside.failures[:10]:
        print(f"failed: {failure}")
    print(f"round {timed.found.state}: {timed.found.reason}")
    streams = f"{options.streams} client{'s' if options.streams > 1 else ''}"
    report(
        "round_time",
        rows_of(timed, alone, beside, options.thumbs),
        f"`thumbwise up` on embedded defaults, SmolLM2-135M-Instruct; {options.thumbs} thumbs of {RATERS} simulated "
        f"raters who read with care{', an easy gate and half an epoch' if options.small else ''}. All the while "
        f"{streams} streamed replies of at most {CHAT_TOKENS} tokens, {PAUSE_S:g} s apart; every refusal or "
        "break counts as failed. Peer: of the time, what is promised; of the chat, the same before the round.",
        seed=options.seed,
    )
    if beside.failures or (timed.live_s is None and not options.small):
        raise SystemExit("broken: a request failed, or nothing went live")


if __name__ == "__main__":
    main()
