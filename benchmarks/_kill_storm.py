"""kill -9 of the server in the middle of a click storm, again and again; what was acknowledged must be there, once.

Each clicker sends a vote and, when the server dies under it, sends the same vote with the same Idempotency-Key to the
next server until it gets a receipt: what every client of ours does.
"""

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._server_process import ServerProcess, some_replies
from benchmarks._vote_check import VoteCheck, check_votes
from benchmarks._vote_client import Acknowledged, Connection, Vote

CLICKERS = 16
REPLIES = 20
LEAST_VOTES, MOST_VOTES = 20, 400
"""A server lives for this many acknowledged votes, drawn anew each time, unless the caller says how many."""


@dataclass(slots=True)
class Storm:
    """A storm under way. `up` is set while a server listens on `port`."""

    dice: random.Random
    replies: list[str]
    port: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    receipts: list[Acknowledged] = field(default_factory=list)
    repeats: int = 0
    """Votes sent again because no answer came."""
    already_stored: int = 0
    """Of those, how many the dead server had stored: counted twice without the key."""


@dataclass(frozen=True, slots=True)
class StormReport:
    """What a storm left behind."""

    kills: int
    repeats: int
    already_stored: int
    votes: VoteCheck


def run_storm(data: Path, kills: int, seed: int, *, url: str = "", votes: int = 0) -> StormReport:
    """Kill the server `kills` times while votes come in, then compare receipts and rows.

    url: an empty PostgreSQL; without it SQLite in `data`. votes: how many are acknowledged in all, at least; 0: as they
    come between the kills.
    """
    storm = asyncio.run(_run(data, kills, random.Random(seed), url, votes))
    return StormReport(kills, storm.repeats, storm.already_stored, check_votes(data, storm.receipts, url))


def _lives(kills: int, votes: int, dice: random.Random) -> list[int]:
    """How many acknowledged votes each server lives for."""
    usual = votes // (kills + 1)
    least, most = (LEAST_VOTES, MOST_VOTES) if not votes else (min(LEAST_VOTES, usual), 2 * usual)
    return [dice.randint(least, most) for _ in range(kills)]


async def _run(data: Path, kills: int, dice: random.Random, url: str, votes: int) -> Storm:
    options = ("--url", url) if url else ()
    server = await asyncio.to_thread(ServerProcess, data, *options)
    storm = Storm(dice, await some_replies(server.port, REPLIES))
    clickers = [asyncio.create_task(_click(storm, f"{number}")) for number in range(CLICKERS)]
    try:
        for life in _lives(kills, votes, dice):
            _announce(storm, server)
            await _until_votes(storm, clickers, len(storm.receipts) + life)
            storm.up.clear()
            server.kill()
            server = await asyncio.to_thread(ServerProcess, data, *options)
        _announce(storm, server)
        await _until_votes(storm, clickers, votes)
        storm.over = True
        await asyncio.gather(*clickers)
    finally:
        for clicker in clickers:
            clicker.cancel()
        server.stop()
    return storm


def _announce(storm: Storm, server: ServerProcess) -> None:
    storm.port = server.port
    storm.up.set()


async def _until_votes(storm: Storm, clickers: list[asyncio.Task[None]], count: int) -> None:
    while len(storm.receipts) < count:
        for clicker in clickers:
            if clicker.done():
                clicker.result()  # a clicker ends early only by an error: show it
        await asyncio.sleep(0.001)


async def _click(storm: Storm, name: str) -> None:
    """Cast votes until the storm is over; every vote that was begun gets its receipt."""
    connection: Connection | None = None
    number = 0
    while not storm.over:
        number += 1
        thumb = storm.dice.choice(("up", "down"))
        vote = Vote(f"rater-{name}", storm.dice.choice(storm.replies), thumb, f"{name}-{number}")
        repeated = False
        while True:
            await storm.up.wait()
            try:
                connection = connection or await Connection.open(storm.port)
                receipt = await connection.send(vote)
            except (OSError, EOFError):
                if connection is not None:
                    await connection.close()
                connection = None
                storm.repeats += 1
                repeated = True
                await asyncio.sleep(0)
                continue
            break
        storm.already_stored += repeated and receipt.duplicate
        storm.receipts.append(receipt)
    if connection is not None:
        await connection.close()
