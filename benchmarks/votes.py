"""Durable votes a second over HTTP at 32 connections: group commit beside a commit per request.

Both servers are the real application, started afresh over an empty SQLite store (WAL, synchronous=FULL) with the same
number of processes and threads; they differ in one setting, store.group_commit_max. Every vote has its own rater and
its own Idempotency-Key, and afterwards every acknowledged one is looked up in the file.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks._server_process import running_server, some_replies
from benchmarks._vote_check import check_votes
from benchmarks._vote_client import Acknowledged, Connection, Vote
from benchmarks.report import Row, report
from feedback_store.settings import StoreSettings

REPLIES = 100
WARM_UP_VOTES = 2_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One server's run: the median of the repeats."""

    votes_per_s: float
    p50_ms: float
    p99_ms: float
    checked: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--votes", type=int, default=12_000, help="votes of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    ours, peer = (
        measure(group, arguments.connections, arguments.votes, arguments.repeats, arguments.seed)
        for group in (StoreSettings().group_commit_max, 1)
    )
    beside = measure(
        StoreSettings().group_commit_max, arguments.connections, arguments.votes, arguments.repeats, arguments.seed,
        "--dashboard",
    )  # fmt: skip
    at = f"{arguments.connections} connections"
    report(
        "votes",
        [
            Row(f"durable votes at {at}", ours.votes_per_s, peer.votes_per_s, unit="votes/s"),
            Row("half of the votes acknowledged within", ours.p50_ms, peer.p50_ms, unit="ms"),
            Row("99 % of the votes acknowledged within", ours.p99_ms, peer.p99_ms, unit="ms"),
            Row(
                "the same with the dashboard, which keeps its inbox up (peer: without)",
                beside.votes_per_s,
                ours.votes_per_s,
                unit="votes/s",
            ),
            Row("99 % of those acknowledged within (peer: without)", beside.p99_ms, ours.p99_ms, unit="ms"),
        ],
        "POST /v1/feedback on one server process over SQLite, each vote on disk before its answer, client on the same "
        "machine. Peer: the same server with one commit per request. Median of "
        f"{arguments.repeats} runs of {arguments.votes:,} votes; every acknowledged vote of all runs "
        f"({ours.checked + peer.checked + beside.checked:,}) was found in the database exactly once.",
        seed=arguments.seed,
    )


def measure(group_commit_max: int, connections: int, votes: int, repeats: int, seed: int, *options: str) -> Measured:
    """Measure one server, started with `options`. Raises SystemExit if a vote was lost or doubled: then there is
    nothing to report."""
    Path("data").mkdir(exist_ok=True)  # not the system's folder for scratch files, which may be memory
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-votes-") as folder:
        data = Path(folder).resolve()
        with running_server(data, "--group-commit-max", str(group_commit_max), *options) as server:
            runs, acknowledged = asyncio.run(_drive(server.port, connections, votes, repeats, seed))
        checked = check_votes(data, acknowledged)
    if not checked.clean or checked.unasked:
        raise SystemExit(f"votes were lost or doubled: {checked}")
    latencies = [sorted(receipt.latency_ms for receipt in receipts) for _, receipts in runs]
    return Measured(
        votes_per_s=statistics.median(len(receipts) / wall_s for wall_s, receipts in runs),
        p50_ms=statistics.median(one[len(one) // 2] for one in latencies),
        p99_ms=statistics.median(one[int(len(one) * 0.99)] for one in latencies),
        checked=checked.acknowledged,
    )


async def _drive(
    port: int, connections: int, votes: int, repeats: int, seed: int
) -> tuple[list[tuple[float, list[Acknowledged]]], list[Acknowledged]]:
    """Warm up, then run `repeats` times; returns (wall seconds, receipts) of each, and all receipts."""
    replies = await some_replies(port, REPLIES)
    dice = random.Random(seed)
    opened = [await Connection.open(port) for _ in range(connections)]
    runs = []
    for repeat in range(repeats + 1):
        count = votes if repeat else WARM_UP_VOTES
        cast = [_vote(dice, replies, f"{repeat}-{number}") for number in range(count)]
        begun = time.perf_counter()
        receipts = await asyncio.gather(
            *(_send_all(connection, cast[place::connections]) for place, connection in enumerate(opened))
        )
        runs.append((time.perf_counter() - begun, [receipt for some in receipts for receipt in some]))
    for connection in opened:
        await connection.close()
    return runs[1:], [receipt for _, receipts in runs for receipt in receipts]


async def _send_all(connection: Connection, votes: list[Vote]) -> list[Acknowledged]:
    return [await connection.send(vote) for vote in votes]


def _vote(dice: random.Random, replies: list[str], name: str) -> Vote:
    return Vote(f"rater-{name}", dice.choice(replies), dice.choice(("up", "down")), f"key-{name}")


if __name__ == "__main__":
    main()
