"""What a store of 10,000, 100,000 and a million raters costs: every look that reads much of it, and its size on disk.

One store grows from one size to the next (benchmarks/_capacity_fill.py: N raters, 1.2 N acts on 1.1 N replies). At each
size every look runs in a process of its own, so that its memory is its own. The peer of a figure is what the smaller
store took, times how much larger this one is: a ratio above 1 grows faster than the store.

    make bench-capacity ARGS="--raters 10000 100000"
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks._capacity_fill import grow
from benchmarks._postgres import running_postgres
from benchmarks.report import Row, report
from feedback_store.store import Store

SIZES = (10_000, 100_000, 1_000_000)
STEPS = {
    "readiness": "readiness", "selection": "a round's selection", "signals": "false feedback looked for",
    "people": "the People page's figures", "counts": "the counts of the status", "export": "export of the thumbs",
    "votes": "a thousand votes, one after another",
}  # fmt: skip
AS_LARGE_AS_BEFORE = ("people", "votes")
"""Looks that read no more of a larger store: their peer is what the smaller one took."""
ROOT = Path(__file__).parent.parent
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a store: how long, the most memory of its process, and the rows that came out."""

    seconds: float
    peak_mib: float
    rows: int


@dataclass(frozen=True, slots=True)
class Size:
    """A store of so many raters."""

    raters: int
    acts: int
    mib: float
    fill_s: float
    looks: dict[str, Look]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, nargs="+", default=SIZES)
    parser.add_argument("--postgres", action="store_true", help="on a throw-away PostgreSQL in place of SQLite")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with new_store(given.postgres) as url:
        found = measure(url, given.raters, given.seed)
    name = "capacity_postgres" if given.postgres else "capacity"
    report(name, rows(found), NOTES.format(database="PostgreSQL" if given.postgres else "SQLite"), seed=given.seed)


NOTES = (
    "One store on {database} that grows; N raters gave 1.2 N acts on 1.1 N replies of some 250 characters. Every look "
    "in a process of its own, once. Peer: the time (or memory) of the smaller store, times how much larger this one "
    "is; for what reads no more of a larger store, the time of the smaller one."
)


@contextmanager
def new_store(postgres: bool) -> Iterator[str]:
    """The URL of a database for as long as the block lasts."""
    if postgres:
        with running_postgres() as server:
            yield server.format(database="postgres")
        return
    Path("data").mkdir(exist_ok=True)  # not the system's folder for scratch files, which may be memory
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-capacity-") as folder:
        yield f"sqlite:///{Path(folder).resolve() / 'thumbwise.db'}"


def measure(url: str, sizes: Sequence[int], seed: int = 0) -> list[Size]:
    """Let a store grow through the sizes and look at it at each."""
    found, before = [], 0
    for raters in sorted(sizes):
        begun = time.perf_counter()
        with Store.open(url) as store:
            grow(store, before, raters, seed)
            fill_s, before = time.perf_counter() - begun, raters
            settle(store)
        looks = {}
        for step in STEPS:
            looks[step] = look(url, step)
            print(
                f"{raters:>9,} raters  {step:<10} {looks[step].seconds:8.2f} s {looks[step].peak_mib:8.0f} MiB",
                flush=True,
            )
        found.append(Size(raters, looks["counts"].rows, size_mib(url), fill_s, looks))
    return found


def settle(store: Store) -> None:
    """Let PostgreSQL count its rows, as it does by itself over time: the throw-away one is told not to."""
    if store.backend == "postgresql":
        store.write(lambda connection: connection.exec_driver_sql("ANALYZE").close())


def look(url: str, step: str) -> Look:
    """Run one look in a process of its own. Raises CalledProcessError when it fails."""
    command = [sys.executable, "-m", "benchmarks._capacity_step", url, step]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return Look(**json.loads(done.stdout))


def size_mib(url: str) -> float:
    """What the database holds on disk."""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*")) / MIB
    import psycopg

    with psycopg.connect(url) as connection:
        (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    return float(size) / MIB


def rows(sizes: Sequence[Size]) -> list[Row]:
    """The table: sizes below one another, each beside what the one before lets expect."""
    found = []
    for size, before in zip(sizes, [None, *sizes], strict=False):
        times = size.raters / before.raters if before else 1.0
        at = f"{size.raters:,} raters"
        found.append(Row(f"{at}: acts", size.acts, unit="acts"))
        found.append(Row(f"{at}: database", size.mib, before.mib * times if before else None, unit="MiB"))
        for step, said in STEPS.items():
            one, known = size.looks[step], before.looks[step] if before else None
            expected = 1.0 if step in AS_LARGE_AS_BEFORE else times
            found.append(Row(f"{at}: {said}", one.seconds, known.seconds * expected if known else None, unit="s"))
        heaviest = max(size.looks.values(), key=lambda one: one.peak_mib)
        most_before = max(one.peak_mib for one in before.looks.values()) * times if before else None
        found.append(Row(f"{at}: most memory of any of them", heaviest.peak_mib, most_before, unit="MiB"))
    return found


if __name__ == "__main__":
    main()
