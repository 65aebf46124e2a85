"""The dashboard over 100,000 replies and 300,000 acts: milliseconds from the request for a page to its last byte.

    make bench-review ARGS="[--backend sqlite|postgresql] [--replies N --events N] [--keep FOLDER]"

Every case is a page as an operator's browser asks for it over HTTP: found, counted and drawn, first on SQLite, then on
a PostgreSQL of the benchmark's own. The peer is what a dashboard without a table of its own would ask of the same
database, with the indexes that votes need anyway: the list and its count in plain SQL over replies and acts (the newest
act of each rater holds), words by LIKE; no HTTP, no page.
"""

import argparse
import http.client
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks._page_peers import facts, peer_times
from benchmarks._postgres import postgres_programs, running_postgres
from benchmarks._server_process import running_server
from benchmarks.report import Row, report
from feedback_store.store import Store
from scripts.seed_store import EVENTS, REPLIES, seed_store

BUDGET_MS = 300.0
WARM_UP, REPEATS = 1, 21
BACKENDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
LISTS: dict[str, str] = {
    "inbox": "/dashboard/inbox",
    "thumbs down": "/dashboard/inbox?verdict=down",
    "thumbs down of version 4 about a word": "/dashboard/inbox?verdict=down&version=4&q=tax",
    "a word": "/dashboard/inbox?q=warranty",
    "a common word": "/dashboard/inbox?q=never",
    "a phrase, and a word that must not be there": '/dashboard/inbox?q="good+frost"+-hedge',
    "disputed": "/dashboard/inbox?disputed=yes",
    "corrections to decide": "/dashboard/inbox?pending=yes",
    "kind: verdicts": "/dashboard/inbox?kind=verdict",
    "excluded": "/dashboard/inbox?excluded=yes",
    "one rater": "/dashboard/inbox?rater={rater}",
    "the busiest rater": "/dashboard/inbox?rater={busiest}&verdict=up",
    "days of one channel, oldest first": "/dashboard/inbox?channel=telegram&since={since}&until={until}&order=oldest",
    "a page far down": "/dashboard/inbox?after={middle}",
    "one reply": "/dashboard/inbox/{middle}",
    "annotate": "/dashboard/annotate",
}
FIGURES: dict[str, str] = {
    "overview": "/dashboard/overview",
    "versions": "/dashboard/versions",
    "rounds": "/dashboard/rounds",
    "people": "/dashboard/people",
    "one person": "/dashboard/people/{rater}",
}
"""Pages with figures that are kept for a while: also asked for once while nothing is known, when they say so and look
again by themselves. How long the figures take is told beside; the budget is of pages."""
SLOW_FIGURES = "until its figures stand there"


@dataclass(frozen=True, slots=True)
class Times:
    """Of one case, in ms."""

    p50: float
    p95: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="none: both, as far as they are there")
    parser.add_argument("--keep", type=Path, help="keep the seeded SQLite here, and use it again when it is there")
    parser.add_argument("--replies", type=int, default=REPLIES)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    there = [name for name in BACKENDS if name == "sqlite" or postgres_programs() is not None]
    rows: list[Row] = []
    for backend in arguments.backend or there:
        rows += _rows(backend, arguments)
    pages = [row for row in rows if SLOW_FIGURES not in row.case]
    slow = sorted({row.case.rpartition(",")[0] for row in pages if row.ours > BUDGET_MS})
    report(
        "review",
        rows,
        f"{arguments.replies:,} replies with {arguments.events:,} acts; each page drawn and counted, over HTTP, "
        f"{arguments.repeats} times after the first. Budget {BUDGET_MS:g} ms: "
        f"{'kept by every case' if not slow else 'broken by ' + '; '.join(slow)}. Peer: the list and its count alone, "
        "in plain SQL over replies and acts with the indexes that votes need, words by LIKE; no page.",
        seed=arguments.seed,
    )


def _rows(backend: str, arguments: argparse.Namespace) -> list[Row]:
    with _database(backend, arguments.keep) as (folder, url):
        with Store.open(url) as store:
            if not store.read(lambda connection: connection.exec_driver_sql("SELECT 1 FROM replies LIMIT 1").first()):
                seed_store(store, replies=arguments.replies, events=arguments.events, seed=arguments.seed)
            _analyze(store)
            filled = store.read(facts)
            peers = peer_times(store, repeats=max(3, arguments.repeats // 4))
        with running_server(folder, "--dashboard", "--url", url) as server:
            ours = _measure(server.port, server.cookie, filled, arguments.repeats)
    rows = []
    for case, times in ours.items():
        peer = peers.get(case)
        name, only = f"{BACKENDS[backend]}: {case}", times.p50 == times.p95
        name_p50 = f"{name}, once" if only else f"{name}, half within"
        rows.append(Row(name_p50, times.p50, peer[0] if peer else None, unit="ms"))
        if not only:
            rows.append(Row(f"{name}, 95 % within", times.p95, peer[1] if peer else None, unit="ms"))
    return rows


@contextmanager
def _database(backend: str, keep: Path | None) -> Iterator[tuple[Path, str]]:
    """A folder for the server's files, and the store's address."""
    Path("data").mkdir(exist_ok=True)  # not the system's folder for scratch files, which may be memory
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-review-") as scratch:
        folder = Path(scratch).resolve()
        if backend == "postgresql":
            with running_postgres() as url:
                yield folder, url.format(database="postgres")
        else:
            kept = (keep or folder).resolve()
            kept.mkdir(parents=True, exist_ok=True)
            yield folder, f"sqlite:///{kept / 'thumbwise.db'}"


def _analyze(store: Store) -> None:
    """What a database's own housekeeping would have done by the time there are so many rows."""
    if store.backend == "postgresql":
        store.write(lambda connection: connection.exec_driver_sql("ANALYZE"))


def _measure(port: int, cookie: str, filled: dict[str, str], repeats: int) -> dict[str, Times]:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def asking(path: str) -> Callable[[], bytes]:
        def ask() -> bytes:
            connection.request("GET", path, headers={"Cookie": cookie})
            answer = connection.getresponse()
            page = answer.read()
            if b"<main" not in page or answer.status != 200:
                raise SystemExit(f"{path} answered {answer.status}; wanted: the page")
            return page

        return ask

    asking("/dashboard/account")()  # templates and catalogues are read once a process
    found: dict[str, Times] = {}
    for case, path in [*LISTS.items(), *FIGURES.items()]:
        ask = asking(path.format(**filled))
        begun = time.perf_counter()
        first = _timed(ask, WARM_UP)[0]
        if case in FIGURES:
            found[f"{case}, the very first look"] = Times(first, first)
            while b"data-again" in ask():  # as the page itself does
                time.sleep(0.1)
            there = round(1000 * (time.perf_counter() - begun), 1)
            found[f"{case}, {SLOW_FIGURES}"] = Times(there, there)
        taken = _timed(ask, repeats)
        found[case] = Times(round(statistics.median(taken), 1), round(taken[int(len(taken) * 0.95)], 1))
    connection.close()
    return found


def _timed(ask: Callable[[], object], repeats: int) -> list[float]:
    """Milliseconds of each time, the shortest first."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - begun))
    return sorted(round(one, 1) for one in taken)


if __name__ == "__main__":
    main()
