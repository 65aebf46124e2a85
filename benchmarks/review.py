"""The inbox with 100,000 replies and 300,000 acts: seconds from the request for a page to its last byte, over HTTP.

    make bench-review ARGS="[--url postgresql://…] [--replies N --events N] [--keep FOLDER]"

Every case is a page as an operator's browser asks for it: found, counted and drawn. The peer is what a dashboard
without a table of its own would ask of the same SQLite, with the indexes that votes need anyway: the list and its count
in plain SQL over replies and acts (the newest act of each rater holds), words by LIKE; no HTTP, no page.
"""

import argparse
import http.client
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks._seeded_store import EVENTS, REPLIES, seed_store
from benchmarks._server_process import running_server
from benchmarks.report import Row, report
from feedback_store.connection import Connection
from feedback_store.store import Store

BUDGET_S = 0.3
WARM_UP, REPEATS = 2, 11
CASES: dict[str, tuple[str, str | None]] = {
    "first page": ("", "1 = 1"),
    "thumbs down": ("verdict=down", "{down}"),
    "thumbs down of version 3 about one word": (
        "version=3&verdict=down&q=tax", "{down} AND r.policy_version = 3 AND {tax}"
    ),
    "a word": ("q=warranty", "r.text LIKE '%warranty%'"),
    "a common word": ("q=never", "r.text LIKE '%never%'"),
    "disputed": ("disputed=yes", "{down} AND {up}"),
    "corrections to decide": ("pending=yes", "EXISTS (SELECT 1 FROM feedback f WHERE f.reply_id = r.reply_id"
                              " AND f.kind = 'correction')"),
    "one rater": ("rater={rater}", None),
    "ten days of one channel": ("channel=telegram&since={since}&until={until}", None),
    "a page far down": ("after={middle}", None),
    "one reply": ("/{middle}", None),
}  # fmt: skip
"""Case → the address's query (or a reply's page) and the peer's condition; None: no peer."""
_HOLDS = (
    "EXISTS (SELECT 1 FROM feedback f WHERE f.reply_id = r.reply_id AND f.kind = 'thumb' AND f.thumb = '{0}'"
    " AND NOT EXISTS (SELECT 1 FROM feedback g WHERE g.reply_id = f.reply_id AND g.rater_id = f.rater_id"
    " AND g.kind = 'thumb' AND g.feedback_id > f.feedback_id))"
)
_RATED = (
    "(EXISTS (SELECT 1 FROM feedback f WHERE f.reply_id = r.reply_id)"
    " OR EXISTS (SELECT 1 FROM feedback f WHERE f.comparison_id = r.comparison_id))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="", help="an empty (or already seeded) store; none: SQLite in data/")
    parser.add_argument("--keep", type=Path, help="keep the seeded SQLite here, and use it again when it is there")
    parser.add_argument("--replies", type=int, default=REPLIES)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-review-") as scratch:
        folder = (arguments.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        url = arguments.url or f"sqlite:///{folder / 'thumbwise.db'}"
        with Store.open(url) as store:
            if store.read(_replies) == 0:
                seed_store(store, reply_count=arguments.replies, event_count=arguments.events, seed=arguments.seed)
            count, filled = store.read(_facts)
            peers = {} if arguments.url else _peers(store)
        with running_server(folder, "--dashboard", "--url", url) as server:
            ours = _measure(server.port, server.cookie, filled)
    rows = [Row(case, seconds, peers.get(case), unit="s") for case, seconds in ours.items()]
    slow = [case for case, seconds in ours.items() if seconds > BUDGET_S]
    backend = "PostgreSQL" if arguments.url.startswith("postgresql") else "SQLite"
    report(
        "review" if backend == "SQLite" else "review-postgresql",
        rows,
        f"{count:,} replies, {arguments.events:,} acts, {backend}; median of {REPEATS}, the pages drawn and counted, "
        f"over HTTP. Budget {BUDGET_S} s: {'kept by all' if not slow else 'broken by ' + ', '.join(slow)}. Peer: the "
        "list and its count alone, in plain SQL over replies and acts.",
        seed=arguments.seed,
    )


def _replies(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM replies").scalar() or 0)


def _facts(connection: Connection) -> tuple[int, dict[str, str]]:
    """How many replies there are, one in the middle of them, ten days around it, and somebody who rated."""
    count = _replies(connection)
    middle, at = connection.exec_driver_sql(
        f"SELECT reply_id, created_at FROM inbox ORDER BY created_at LIMIT 1 OFFSET {count // 2}"
    ).one()
    rater = connection.exec_driver_sql("SELECT rater_id FROM inbox_raters LIMIT 1").scalar_one()
    month = str(at)[:8]
    return count, {"middle": str(middle), "since": f"{month}01", "until": f"{month}10", "rater": str(rater)}


def _measure(port: int, cookie: str, filled: dict[str, str]) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    found = {}
    for case, (query, _) in CASES.items():
        query = query.format(**filled)
        path = f"/dashboard/inbox{query}" if query.startswith("/") else f"/dashboard/inbox?{query}"

        def ask(path: str = path) -> None:
            connection.request("GET", path, headers={"Cookie": cookie})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or b"data-live" not in body:
                raise SystemExit(f"{path} answered {answer.status}; wanted: the page")

        found[case] = _seconds(ask)
    connection.close()
    return found


def _peers(store: Store) -> dict[str, float]:
    words = {"down": _HOLDS.format("down"), "up": _HOLDS.format("up"), "tax": "r.text LIKE '%tax%'"}

    def ask(condition: str) -> Callable[[], None]:
        where = f"{_RATED} AND {condition}"

        def both(connection: Connection) -> None:
            newest = f"SELECT r.* FROM replies r WHERE {where} ORDER BY r.created_at DESC, r.reply_id DESC LIMIT 51"
            connection.exec_driver_sql(newest).all()
            connection.exec_driver_sql(f"SELECT count(*) FROM replies r WHERE {where}").all()

        return lambda: store.read(both)

    return {
        case: _seconds(ask(condition.format(**words)), warm_up=1, repeats=3)
        for case, (_, condition) in CASES.items()
        if condition is not None
    }


def _seconds(ask: Callable[[], None], warm_up: int = WARM_UP, repeats: int = REPEATS) -> float:
    taken = []
    for _ in range(warm_up + repeats):
        begun = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - begun)
    return round(statistics.median(taken[warm_up:]), 4)


if __name__ == "__main__":
    main()
