"""A crowd that chats: every person has a connection, talks in turns, waits, votes, changes their mind, begins anew.

Nobody waits for a fixed clock: a person thinks after each reply, for as long as chance says. Half of them agreed that
their words are kept. Someone watches meanwhile as an operator does: readiness, metrics and the dashboard's overview.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks._chat_client import Broken, Line, Streamed
from benchmarks._memory import processor_s, resident_mib
from benchmarks._vote_client import Acknowledged, Vote

Answer = TypeVar("Answer")
ANSWER_WITHIN_S = 30.0
SAMPLE_S = 0.25
WATCH_S = 5.0
MOST_TURNS = 6
QUESTIONS = (
    "What shall we cook tonight?", "Why is the sea salty?", "Write two lines about a kettle.", "And then?",
    "Shorter, please.", "How do I learn a song?", "Give me three ideas for a rainy day.", "Is that so?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many people, for how long, and what they are like."""

    people: int = 1_000
    seconds: float = 600.0
    think_s: float = 15.0
    """Mean pause after a reply."""
    votes: float = 0.5
    """Share of the replies that get a thumb."""
    second_thoughts: float = 0.1
    """Share of the votes that are changed at once."""
    repeats: float = 0.05
    """Share of the votes that are sent again under their key, as after a lost answer."""
    seed: int = 0
    told: bool = True
    """Whether the server answers /v1/consent, /readyz, /metrics and has a dashboard: the peer has none."""


@dataclass(slots=True)
class Load:
    """What the crowd saw."""

    first_word_ms: list[float] = field(default_factory=list)
    whole_ms: list[float] = field(default_factory=list)
    vote_ms: list[float] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    conversations: int = 0
    connections: int = 0
    pages: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """(second, MiB) of the server."""
    processor_s: float = 0.0
    """What the server computed."""
    wall_s: float = 0.0

    @property
    def replies(self) -> int:
        """Replies that came whole, with a receipt."""
        return len(self.whole_ms)


class _Storm:
    """The crowd under way."""

    def __init__(self, port: int, crowd: Crowd, cookie: str) -> None:
        self.port, self.crowd, self.cookie = port, crowd, cookie
        self.load = Load()
        self._over = asyncio.Event()

    async def pause(self, seconds: float) -> bool:
        """Wait. False once it is over."""
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except TimeoutError:
            pass
        return not self._over.is_set()

    def end(self) -> None:
        self._over.set()


def run_crowd(port: int, pid: int, crowd: Crowd, cookie: str = "") -> Load:
    """Let a crowd chat with the server at `port`, whose process is `pid`."""
    return asyncio.run(_run(port, pid, crowd, cookie))


async def _run(port: int, pid: int, crowd: Crowd, cookie: str) -> Load:
    storm = _Storm(port, crowd, cookie)
    computed, begun = processor_s(pid), time.perf_counter()
    tasks = [asyncio.create_task(_person(storm, number)) for number in range(crowd.people)]
    tasks.append(asyncio.create_task(_sample(storm, pid)))
    if crowd.told:
        tasks.append(asyncio.create_task(_watch(storm)))
    # A person ends early only by an error of the benchmark: show it.
    done, _ = await asyncio.wait(tasks, timeout=crowd.seconds, return_when=asyncio.FIRST_EXCEPTION)
    storm.end()
    for task in done:
        task.result()
    await asyncio.gather(*tasks)
    storm.load.processor_s, storm.load.wall_s = processor_s(pid) - computed, time.perf_counter() - begun
    return storm.load


async def _person(storm: _Storm, number: int) -> None:
    dice = random.Random(f"{storm.crowd.seed}-{number}")
    line = Line(storm.port)
    try:
        if not await storm.pause(dice.uniform(0, storm.crowd.think_s)):
            return
        if storm.crowd.told and number % 2 == 0:
            consent = {"rater": f"person-{number}", "channel": "api", "given": True}
            await _in_time(storm, line, line.post("/v1/consent", consent))
        talks = 0
        while await _talk(storm, line, dice, f"person-{number}", talks):
            talks += 1
    finally:
        storm.load.connections += line.opened
        await line.close()


async def _talk(storm: _Storm, line: Line, dice: random.Random, name: str, talk: int) -> bool:
    """One conversation. False once it is over."""
    load, crowd = storm.load, storm.crowd
    load.conversations += 1
    messages: list[dict[str, str]] = []
    for turn in range(dice.randint(1, MOST_TURNS)):
        messages.append({"role": "user", "content": dice.choice(QUESTIONS)})
        body = {"messages": messages, "user": name, "metadata": {"conversation_id": f"{name}-{talk}"}}
        reply = await _in_time(storm, line, line.chat(body))
        if reply is None:
            return await storm.pause(dice.expovariate(1 / crowd.think_s))
        load.first_word_ms.append(reply.first_word_ms)
        load.whole_ms.append(reply.whole_ms)
        messages.append({"role": "assistant", "content": reply.text})
        if dice.random() < crowd.votes:
            await _votes(storm, line, dice, f"{name}-{talk}-{turn}", name, reply)
        if not await storm.pause(dice.expovariate(1 / crowd.think_s)):
            return False
    return True


async def _votes(storm: _Storm, line: Line, dice: random.Random, key: str, name: str, reply: Streamed) -> None:
    """A thumb, perhaps the other one after it, perhaps once more the same."""
    thumbs = ["up", "down"] if dice.random() < storm.crowd.second_thoughts else ["up"]
    for place, thumb in enumerate(thumbs):
        vote = Vote(name, reply.reply_id, thumb, f"{key}-{place}")
        times = 2 if storm.crowd.told and dice.random() < storm.crowd.repeats else 1
        for again in range(times):
            body = {"rater": name, "reply_id": reply.reply_id, "thumb": thumb}
            answer = await _in_time(storm, line, line.post("/v1/feedback", body, vote.key))
            if answer is None:
                return
            receipt, taken_ms = answer
            storm.load.vote_ms.append(taken_ms)
            if bool(again) != receipt["duplicate"]:
                storm.load.errors["a repeated vote was not known"] += 1
            storm.load.acknowledged.append(Acknowledged(vote, receipt["feedback_id"], bool(again), taken_ms))


async def _in_time(storm: _Storm, line: Line, asking: Awaitable[Answer]) -> Answer | None:
    """What was asked for, or None: then an error was counted and the connection is made again."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await asking
    except Broken as error:
        storm.load.errors[error.kind] += 1
    except (OSError, EOFError) as error:  # TimeoutError is one
        storm.load.errors[type(error).__name__] += 1
    await line.close()
    return None


async def _sample(storm: _Storm, pid: int) -> None:
    begun = time.perf_counter()
    while True:
        storm.load.memory.append((time.perf_counter() - begun, resident_mib(pid)))
        if not await storm.pause(min(SAMPLE_S, storm.crowd.seconds / 60)):
            return


async def _watch(storm: _Storm) -> None:
    """What a monitor and an operator with the overview open ask for."""
    line = Line(storm.port)
    while await storm.pause(min(WATCH_S, storm.crowd.seconds / 4)):
        for path in ("/readyz", "/metrics", *(("/dashboard/overview",) if storm.cookie else ())):
            storm.load.pages += await _in_time(storm, line, line.get(path, storm.cookie)) is not None
    storm.load.connections += line.opened
    await line.close()
