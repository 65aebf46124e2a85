"""A thousand people who chat at the same time for ten minutes: errors, waits and memory.

The server is the real application with its dashboard over SQLite, every reply and vote on disk before it is confirmed;
only the model is missing: an engine of words answers, a word every 20 ms. Each person has a connection of their own,
reads streams, votes, changes votes and begins new conversations (benchmarks/_chatters.py). Afterwards every
acknowledged vote and every receipt is looked up in the file.

The peer is a bare FastAPI with the same words and the same crowd, which keeps nothing but votes, a commit each
(benchmarks/_bare_server.py). It runs for a tenth of the time, and for a minute at least.

    make bench-load ARGS="--seconds 60"
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks._chatters import Crowd, Load, run_crowd
from benchmarks._memory import Slope, slope
from benchmarks._server_process import running_server
from benchmarks._vote_check import VoteCheck, check_votes
from benchmarks.report import Row, report

WARM_UP = 0.2
"""Part of the run that is left out of the memory's slope: caches fill, buffers grow to their size."""
JUDGED_FROM_S = 300.0
"""A shorter run says nothing about a leak: its memory is reported and not judged."""
MOST_GROWTH = 0.05
"""Part of the memory that it may grow by in the part of the run that is looked at, where the slope is sure."""
PEER_S = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """One server's run, what its memory did, and what its database holds."""

    load: Load
    votes: VoteCheck
    unknown_receipts: int
    """Replies that came whole whose receipt no row has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--think-s", type=float, default=15.0, help="mean pause of a person after a reply")
    parser.add_argument("--words", type=int, default=16)
    parser.add_argument("--step-s", type=float, default=0.02, help="pause before each word")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    crowd = Crowd(given.people, given.seconds, given.think_s, seed=given.seed)
    engine = ("--words", str(given.words), "--step-s", str(given.step_s))
    Path("data").mkdir(exist_ok=True)  # not the system's folder for scratch files, which may be memory
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-load-") as name:
        ours = serve(Path(name).resolve() / "ours", crowd, engine)
        peer_s = min(given.seconds, max(PEER_S, given.seconds / 10))
        peer = serve_bare(Path(name).resolve() / "peer", replace(crowd, seconds=peer_s, told=False), engine)
    notes = (
        f"Each person thinks {given.think_s:g} s after a reply on average and votes on half of them; replies have "
        f"{given.words} words, one every {given.step_s * 1000:g} ms, which the first word's figures hold once. Someone "
        f"asks for readiness, metrics and the overview every few seconds. Peer, for {peer_s:g} s: a bare FastAPI with "
        "the same words that keeps votes alone, without identity, receipts or pages. Slope: least squares over the "
        f"means of ten parts of the run behind its first {WARM_UP:.0%}, with its 95 % interval. The crowd computes on "
        "the same machine."
    )
    report("load", rows(ours, peer, crowd), notes, seed=given.seed)
    broken = [promise for promise, kept in promises(ours, crowd).items() if not kept]
    if broken:
        raise SystemExit("broken: " + "; ".join(broken))


def serve(data: Path, crowd: Crowd, engine: Sequence[str] = ()) -> Served:
    """Let the crowd chat with the real application."""
    with running_server(data, "--dashboard", *engine) as server:
        load = run_crowd(server.port, server.pid, crowd, server.cookie)
    return Served(load, check_votes(data, load.acknowledged), load.replies - _stored_replies(data))


def serve_bare(data: Path, crowd: Crowd, engine: Sequence[str] = ()) -> Load:
    """Let the crowd chat with the peer."""
    with running_server(data, *engine, module="benchmarks._bare_server") as server:
        return run_crowd(server.port, server.pid, crowd)


def settled(load: Load) -> list[tuple[float, float]]:
    """The samples of memory behind the warm-up."""
    return [one for one in load.memory if one[0] >= WARM_UP * load.memory[-1][0]]


def rows(ours: Served, peer: Load, crowd: Crowd) -> list[Row]:
    """The table."""
    load, memory = ours.load, settled(ours.load)
    found = slope(memory)
    return [
        Row(f"{crowd.people:,} people chat at the same time for", load.wall_s, unit="s"),
        Row("replies, each whole and with a receipt", load.replies, unit="replies"),
        Row("conversations", load.conversations, unit="conversations"),
        Row("acknowledged votes, changed ones among them", ours.votes.acknowledged, unit="votes"),
        Row("… lost", ours.votes.lost, unit="votes"),
        Row("… doubled", ours.votes.doubled, unit="votes"),
        Row("errors", sum(load.errors.values()), sum(peer.errors.values()), unit="answers"),
        *_waits("the first word", load.first_word_ms, peer.first_word_ms),
        *_waits("the acknowledgement of a vote", load.vote_ms, peer.vote_ms),
        Row("the server's processor for a reply, its part of the votes with it",
            1000 * load.processor_s / max(1, load.replies), 1000 * peer.processor_s / max(1, peer.replies), unit="ms"),
        Row("the server's memory at the end", memory[-1][1], peer.memory[-1][1], unit="MiB"),
        Row("… its slope", found.mib_an_hour, unit="MiB/h"),
        Row("… at least", found.low, unit="MiB/h"),
        Row("… at most", found.high, unit="MiB/h"),
    ]  # fmt: skip


def _waits(what: str, ours: Sequence[float], peer: Sequence[float]) -> list[Row]:
    return [
        Row(f"{said} for {what}", quantile(ours, share), quantile(peer, share), unit="ms")
        for said, share in (("half of the waits", 0.5), ("99 % of the waits", 0.99), ("99.9 % of the waits", 0.999))
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed; not a number where there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def promises(ours: Served, crowd: Crowd) -> dict[str, bool]:
    """What must hold."""
    load = ours.load
    kept = {
        f"no error, found {dict(load.errors)}": not load.errors,
        "no acknowledged vote lost or doubled": ours.votes.clean and ours.votes.unasked == 0,
        "every receipt in the store": ours.unknown_receipts == 0,
        "somebody chatted and voted": load.replies > 0 and ours.votes.acknowledged > 0,
    }
    if crowd.seconds >= JUDGED_FROM_S:
        kept["flat memory"] = is_flat(slope(settled(load)), load)
    return kept


def is_flat(found: Slope, load: Load) -> bool:
    """Whether memory did not grow: the slope may be none, or what it adds up to is little."""
    samples = settled(load)
    hours = (samples[-1][0] - samples[0][0]) / 3600
    return found.low <= 0 or found.mib_an_hour * hours <= MOST_GROWTH * samples[0][1]


def _stored_replies(data: Path) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(data / "thumbwise.db")) as database:
        return int(database.execute("SELECT count(*) FROM replies").fetchone()[0])


if __name__ == "__main__":
    main()
