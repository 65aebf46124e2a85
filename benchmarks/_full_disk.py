"""A server whose files may grow no further, again and again, at another byte each time.

A limit on the size of files, set on the running process from outside, does what a full disk does to SQLite: a write
comes back short or refused in the middle of a transaction (EFBIG). Unlike a small file system (ENOSPC,
benchmarks/_small_disk.py) it needs no rights.
"""

import asyncio
import random
import resource
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks._server_process import ServerProcess, some_replies
from benchmarks._vote_check import VoteCheck, check_votes
from benchmarks._vote_client import Acknowledged, Connection, Refused, Vote

VOTERS = 8
REPLIES = 10
PAUSE_S = 0.01
LEAST_VOTES, MOST_VOTES = 10, 200
"""Acknowledged votes between two points, drawn anew each time."""
CHATS = 3
"""Replies asked for while the disk is full."""
ANSWER_WITHIN_S = 30.0
RED_WITHIN_S = 2.0
BEYOND_BYTES = 65_536
"""A point lies at most that far behind the end of the write-ahead log."""


class Disk(Protocol):
    """What the server writes to, and a way to let it be full."""

    def fill(self, process: int, data: Path, dice: random.Random) -> None:
        """Leave the process little room, or none, for its files in `data`."""

    def free(self, process: int) -> None:
        """Give the room back."""


class LimitedFiles:
    """No file of the process may be larger than a byte near the end of its write-ahead log. Linux alone."""

    def fill(self, process: int, data: Path, dice: random.Random) -> None:
        log = data / "thumbwise.db-wal"
        _limit(process, dice.randint(0, log.stat().st_size + BEYOND_BYTES))

    def free(self, process: int) -> None:
        _limit(process, resource.RLIM_INFINITY)


@dataclass(slots=True)
class _Storm:
    port: int
    replies: list[str]
    over: bool = False
    refused: int = 0
    receipts: list[Acknowledged] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FullDiskReport:
    """What clients saw, and what the file holds."""

    points: int
    votes: VoteCheck
    delivered: int
    failed_replies: int
    green: int
    """Points at which readiness stayed green although votes were refused."""
    longest_back_s: float
    """From the room's return to the next acknowledged vote."""
    whole: bool
    """SQLite's own check of the file found nothing."""


def run_full_disk(data: Path, points: int, seed: int, disk: Disk | None = None) -> FullDiskReport:
    """Serve from SQLite in `data`, fill the disk `points` times and count. disk: None limits the files' size."""
    return asyncio.run(_run(data, points, random.Random(seed), disk or LimitedFiles()))


async def _run(data: Path, points: int, dice: random.Random, disk: Disk) -> FullDiskReport:
    server = await asyncio.to_thread(ServerProcess, data)
    delivered = failed = green = 0
    longest_back_s = 0.0
    try:
        storm = _Storm(server.port, await some_replies(server.port, REPLIES))
        voters = [asyncio.create_task(_vote(storm, f"{number}")) for number in range(VOTERS)]
        try:
            for _ in range(points):
                await _until_votes(storm, voters, len(storm.receipts) + dice.randint(LEAST_VOTES, MOST_VOTES))
                disk.fill(server.pid, data, dice)
                await _until_refused(storm, voters, storm.refused + 1)
                whole, green_now = await _look(storm.port)
                delivered, failed, green = delivered + whole, failed + CHATS - whole, green + green_now
                disk.free(server.pid)
                lifted = time.monotonic()
                await _until_votes(storm, voters, len(storm.receipts) + 1)
                longest_back_s = max(longest_back_s, time.monotonic() - lifted)
            storm.over = True
            await asyncio.gather(*voters)
        finally:
            for voter in voters:
                voter.cancel()
            await asyncio.gather(*voters, return_exceptions=True)
    finally:
        await asyncio.to_thread(server.stop)
    with closing(sqlite3.connect(data / "thumbwise.db")) as database:
        whole_file = database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    votes = check_votes(data, storm.receipts)
    return FullDiskReport(points, votes, delivered, failed, green, longest_back_s, whole_file)


def _limit(process: int, largest_bytes: int) -> None:
    """Let the process make no file larger than that; `resource.RLIM_INFINITY` lifts it."""
    resource.prlimit(process, resource.RLIMIT_FSIZE, (largest_bytes, resource.RLIM_INFINITY))


async def _look(port: int) -> tuple[int, bool]:
    """Chat while the disk is full. Returns how many replies came whole, and whether readiness was green."""
    connection = await Connection.open(port)
    whole = 0
    try:
        for _ in range(CHATS):
            body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
            try:
                completion = await connection.post("/v1/chat/completions", body)
            except Refused:
                continue
            whole += bool(completion["choices"][0]["message"]["content"])
        # A smaller group may still fit behind a larger one that did not: the voters fill what is left.
        end = time.monotonic() + RED_WITHIN_S
        while (is_green := await connection.status_of("/readyz") == 200) and time.monotonic() < end:
            await asyncio.sleep(PAUSE_S)
        return whole, is_green
    finally:
        await connection.close()


async def _until_votes(storm: _Storm, voters: list[asyncio.Task[None]], count: int) -> None:
    await _until(voters, lambda: len(storm.receipts) >= count)


async def _until_refused(storm: _Storm, voters: list[asyncio.Task[None]], count: int) -> None:
    await _until(voters, lambda: storm.refused >= count)


async def _until(voters: list[asyncio.Task[None]], reached: Callable[[], bool]) -> None:
    end = time.monotonic() + ANSWER_WITHIN_S
    while not reached():
        for voter in voters:
            if voter.done():
                voter.result()  # a voter ends early only by an error: show it
        if time.monotonic() > end:
            raise TimeoutError(f"waited {ANSWER_WITHIN_S:g} s for a vote to be stored or refused")
        await asyncio.sleep(0.001)


async def _vote(storm: _Storm, name: str) -> None:
    """Cast votes until it is over; every vote that was begun gets its receipt."""
    connection = await Connection.open(storm.port)
    number = 0
    while not storm.over:
        number += 1
        vote = Vote(f"rater-{name}", storm.replies[number % len(storm.replies)], "up", f"{name}-{number}")
        while True:
            try:
                storm.receipts.append(await connection.send(vote))
            except Refused as refusal:
                if refusal.status != 503:
                    raise
                storm.refused += 1
                await asyncio.sleep(PAUSE_S)
                continue
            break
    await connection.close()
