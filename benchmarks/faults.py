"""Faults of the machine under load: the database away for a minute, refusing and silent; the disk full at 100 points,
by a limit on the size of files and on a small file system.

Away: PostgreSQL behind a proxy of faults (benchmarks/_fault_proxy.py). Disk: the size of the server's files is limited
from outside, at another byte each time, until a vote is refused, and the limit is lifted again; and once more on a
tmpfs that a file fills but for some pages, where this machine lets us mount one (benchmarks/_small_disk.py).
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks._away_storm import AwayReport, Course, Fault, run_away
from benchmarks._fault_proxy import fault_proxy
from benchmarks._full_disk import FullDiskReport, run_full_disk
from benchmarks._postgres import running_postgres
from benchmarks._small_disk import may_mount, run_small_disk
from benchmarks.report import Row, report

FAULTS: tuple[Fault, ...] = ("refuse", "silence")
LEAST_DELIVERED = 0.999
BACK_WITHIN_S = 10.0
STORED_AGAIN_WITHIN_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--away-s", type=float, default=60.0)
    parser.add_argument("--points", type=int, default=100, help="at which the disk is full")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    away, full, small = measure(arguments.away_s, arguments.points, arguments.seed)
    rows: list[Row] = []
    promises: dict[str, bool] = {}
    for fault, found in away.items():
        rows += _away_rows(f"database {_SAID[fault]} {arguments.away_s:g} s", found)
        promises |= _away_promises(fault, found)
    rows += _disk_rows("disk full", full)
    promises |= _disk_promises("full disk", full)
    notes = "16 clients vote and 8 chat without pause over HTTP; a refused vote is repeated under its Idempotency-Key. "
    if small is not None:
        rows += _disk_rows("small file system full", small)
        promises |= _disk_promises("full file system", small)
        notes += "Disk full: by a limit on the size of files (EFBIG), then on a tmpfs (ENOSPC)."
    else:
        notes += "Disk full: by a limit on the size of files (EFBIG); no small file system may be mounted here."
    report("faults", rows, notes, seed=arguments.seed)
    broken = [promise for promise, kept in promises.items() if not kept]
    if broken:
        raise SystemExit("broken: " + "; ".join(broken))


def measure(
    away_s: float, points: int, seed: int
) -> tuple[dict[Fault, AwayReport], FullDiskReport, FullDiskReport | None]:
    """Take the database away in each way, then fill the disk in each way; None where nothing may be mounted."""
    Path("data").mkdir(exist_ok=True)
    away: dict[Fault, AwayReport] = {}
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-faults-") as name:
        folder = Path(name).resolve()
        with running_postgres() as server:
            for fault in FAULTS:
                direct = _new_database(server, f"away_{fault}")
                with fault_proxy(direct) as (proxy, through):
                    away[fault] = run_away(folder / fault, proxy, through, direct, Course(fault, away_s=away_s))
        full = run_full_disk(folder / "disk", points, seed)
        small = run_small_disk(folder / "small", points, seed) if may_mount(folder / "small") else None
        return away, full, small


_SAID = {"refuse": "refuses for", "silence": "is silent for"}


def _new_database(server: str, name: str) -> str:
    import psycopg

    with psycopg.connect(server.format(database="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.format(database=name)


def _away_rows(case: str, found: AwayReport) -> list[Row]:
    return [
        Row(f"{case}: acknowledged votes", found.votes.acknowledged, unit="votes"),
        Row("… lost", found.votes.lost, unit="votes"),
        Row("… doubled", found.votes.doubled, unit="votes"),
        Row("votes refused with 503, and repeated", found.refused, unit="answers"),
        Row("votes refused in any other way", found.failures, unit="answers"),
        Row("replies delivered", 100 * found.delivered_share, unit="%"),
        Row("… of them without a receipt", found.without_receipt, unit="replies"),
        Row("longest wait for an answer to a vote", found.longest_vote_s, unit="s"),
        Row("longest wait for a reply", found.longest_reply_s, unit="s"),
        Row("back to normal after", found.back_s, unit="s"),
    ]


def _away_promises(fault: str, found: AwayReport) -> dict[str, bool]:
    return {
        f"{fault}: no acknowledged vote lost or doubled": found.votes.clean,
        f"{fault}: refusals are 503": found.failures == 0,
        f"{fault}: it was away": found.refused > 0,
        f"{fault}: {LEAST_DELIVERED:.1%} of replies delivered": found.delivered_share >= LEAST_DELIVERED,
        f"{fault}: readiness red, and green again": found.ready_again and not found.green_while_away,
        f"{fault}: back within {BACK_WITHIN_S:g} s": found.back_s <= BACK_WITHIN_S,
    }


def _disk_rows(case: str, found: FullDiskReport) -> list[Row]:
    return [
        Row(case, found.points, unit="points"),
        Row(f"acknowledged votes, {case}", found.votes.acknowledged, unit="votes"),
        Row("… lost", found.votes.lost, unit="votes"),
        Row("… doubled", found.votes.doubled, unit="votes"),
        Row("replies delivered while it was full", found.delivered, unit="replies"),
        Row("… failed", found.failed_replies, unit="replies"),
        Row("readiness not red while it was full", found.green, unit="points"),
        Row("longest until votes were stored again", found.longest_back_s, unit="s"),
    ]


def _disk_promises(case: str, found: FullDiskReport) -> dict[str, bool]:
    return {
        f"{case}: no acknowledged vote lost or doubled": found.votes.clean,
        f"{case}: every reply delivered": found.failed_replies == 0 and found.delivered > 0,
        f"{case}: readiness red": found.green == 0,
        f"{case}: the database is whole": found.whole,
        f"{case}: stored again within {STORED_AGAIN_WITHIN_S:g} s": found.longest_back_s <= STORED_AGAIN_WITHIN_S,
    }


if __name__ == "__main__":
    main()
