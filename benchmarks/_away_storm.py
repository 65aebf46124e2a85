"""The database goes away under load and comes back: votes are kept or clearly refused, replies go on.

Voters repeat every refused vote under its key until it is acknowledged, as clients of ours do. Chatters ask for replies
all the while: a reply counts as delivered when it comes whole, with or without a receipt.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks._fault_proxy import FaultProxy
from benchmarks._server_process import ServerProcess, some_replies
from benchmarks._vote_check import VoteCheck, check_votes
from benchmarks._vote_client import Acknowledged, Connection, Refused, Vote

Fault = Literal["refuse", "silence"]
QUESTION = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
REPLIES = 10
STEP_S = 0.01


@dataclass(frozen=True, slots=True)
class Course:
    """How long each part lasts, and how many people there are."""

    fault: Fault
    calm_s: float = 5.0
    away_s: float = 60.0
    after_s: float = 10.0
    voters: int = 16
    chatters: int = 8
    pause_s: float = 0.05
    """Of a chatter between two messages, and of a voter after a refusal."""
    busy_timeout_s: float = 5.0


@dataclass(slots=True)
class _Storm:
    port: int
    course: Course
    over: bool = False
    receipts: list[Acknowledged] = field(default_factory=list)
    vote_ends: list[float] = field(default_factory=list)
    """When each receipt came."""
    refusals: Counter[int] = field(default_factory=Counter)
    """Status of each vote that was refused."""
    longest_vote_s: float = 0.0
    """Until an answer of any kind."""
    delivered: int = 0
    without_receipt: int = 0
    failed: int = 0
    longest_reply_s: float = 0.0
    receipt_ends: list[float] = field(default_factory=list)
    """When each reply with a receipt came."""


@dataclass(frozen=True, slots=True)
class AwayReport:
    """What people saw, and what the database holds."""

    votes: VoteCheck
    refused: int
    failures: int
    """Votes that got another status than 200 or 503."""
    delivered: int
    without_receipt: int
    failed_replies: int
    longest_vote_s: float
    longest_reply_s: float
    acknowledged_while_away: int
    green_while_away: bool
    """Readiness, asked at the end of the outage."""
    ready_again: bool
    """… and at the end of the storm."""
    back_s: float
    """From the database's return until both a vote and a reply's receipt were stored; infinite: never."""

    @property
    def delivered_share(self) -> float:
        """Replies delivered, of all that were asked for."""
        return self.delivered / max(1, self.delivered + self.failed_replies)


def run_away(data: Path, proxy: FaultProxy, through: str, direct: str, course: Course) -> AwayReport:
    """Serve over the database at `through` (by way of the proxy), take it away once; count by way of `direct`."""
    return asyncio.run(_run(data, proxy, through, direct, course))


async def _run(data: Path, proxy: FaultProxy, through: str, direct: str, course: Course) -> AwayReport:
    options = ("--url", through, "--busy-timeout-s", str(course.busy_timeout_s))
    server = await asyncio.to_thread(ServerProcess, data, *options)
    try:
        storm = _Storm(server.port, course)
        replies = await some_replies(server.port, REPLIES)
        people = [_vote(storm, f"{number}", replies) for number in range(course.voters)]
        people += [_chat(storm) for _ in range(course.chatters)]
        tasks = [asyncio.create_task(person) for person in people]
        try:
            await _watch(tasks, course.calm_s)
            begun = time.monotonic()
            await asyncio.to_thread(proxy.refuse if course.fault == "refuse" else proxy.silence)
            await _watch(tasks, course.away_s)
            green = await _is_ready(server.port)
            await asyncio.to_thread(proxy.restore)
            returned = time.monotonic()
            await _watch(tasks, course.after_s)
            ready = await _is_ready(server.port)
            storm.over = True
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await asyncio.to_thread(server.stop)
    return _counted(storm, check_votes(data, storm.receipts, direct), (begun, returned), (green, ready))


async def _is_ready(port: int) -> bool:
    connection = await Connection.open(port)
    try:
        return await connection.status_of("/readyz") == 200
    finally:
        await connection.close()


async def _watch(tasks: list[asyncio.Task[None]], seconds: float) -> None:
    """Let the storm go on; a person who ends early ended by an error of ours: show it."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


def _counted(storm: _Storm, votes: VoteCheck, away: tuple[float, float], readiness: tuple[bool, bool]) -> AwayReport:
    begun, returned = away
    first_vote = min((end for end in storm.vote_ends if end > returned), default=float("inf"))
    first_receipt = min((end for end in storm.receipt_ends if end > returned), default=float("inf"))
    return AwayReport(
        votes=votes,
        refused=storm.refusals[503],
        failures=sum(storm.refusals.values()) - storm.refusals[503],
        delivered=storm.delivered,
        without_receipt=storm.without_receipt,
        failed_replies=storm.failed,
        longest_vote_s=storm.longest_vote_s,
        longest_reply_s=storm.longest_reply_s,
        acknowledged_while_away=sum(begun + 1 < end < returned for end in storm.vote_ends),
        green_while_away=readiness[0],
        ready_again=readiness[1],
        back_s=max(first_vote, first_receipt) - returned,
    )


async def _vote(storm: _Storm, name: str, replies: list[str]) -> None:
    """Cast votes until it is over; every vote that was begun gets its receipt."""
    connection = await Connection.open(storm.port)
    number = 0
    while not storm.over:
        number += 1
        vote = Vote(f"rater-{name}", replies[number % len(replies)], "up" if number % 3 else "down", f"{name}-{number}")
        while True:
            begun = time.monotonic()
            try:
                receipt = await connection.send(vote)
            except Refused as refusal:
                storm.refusals[refusal.status] += 1
                await asyncio.sleep(storm.course.pause_s)
                continue
            finally:
                storm.longest_vote_s = max(storm.longest_vote_s, time.monotonic() - begun)
            storm.receipts.append(receipt)
            storm.vote_ends.append(time.monotonic())
            break
        await asyncio.sleep(STEP_S)
    await connection.close()


async def _chat(storm: _Storm) -> None:
    connection = await Connection.open(storm.port)
    while not storm.over:
        begun = time.monotonic()
        try:
            completion: Any = await connection.post("/v1/chat/completions", QUESTION)
        except Refused:
            storm.failed += 1
        else:
            _count_reply(storm, completion)
        storm.longest_reply_s = max(storm.longest_reply_s, time.monotonic() - begun)
        await asyncio.sleep(storm.course.pause_s)
    await connection.close()


def _count_reply(storm: _Storm, completion: dict[str, Any]) -> None:
    choice = completion["choices"][0]
    if not choice["message"]["content"]:
        storm.failed += 1
        return
    storm.delivered += 1
    if choice["reply_id"] is None:
        storm.without_receipt += 1
    else:
        storm.receipt_ends.append(time.monotonic())
