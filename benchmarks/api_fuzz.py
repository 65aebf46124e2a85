"""schemathesis over the whole OpenAPI document of a real server, as everybody who may knock: no answer of 5xx, every
answer as the document says, nobody let in without the right.

The server is a process of its own over a seeded store (a month of an invented bot), so that ids of replies, rounds and
versions lead somewhere; only the model is missing. The short form is tests/serving/test_api_schema.py.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks._fuzz_callers import ADMIN, callers_of
from benchmarks._fuzz_run import Found, fuzz
from benchmarks._server_process import running_server
from benchmarks._word_server import ADMIN_TOKEN
from benchmarks.report import Row, report
from feedback_store.store import Store
from scripts.seed_store import seed_store

REPLIES, EVENTS = 300, 900
CASES = 10_000
SHOWN_FAULTS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="at least so many requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="routes whose `METHOD /path` holds this text")
    arguments = parser.parse_args()
    found = measure(arguments.cases, arguments.seed, arguments.only)
    for fault, curl in list(found.faults.items())[:SHOWN_FAULTS]:
        print(f"\n{fault}\n{curl}")
    print("\nnever did what was asked: " + (", ".join(sorted(found.routes - found.routes_that_answered)) or "none"))
    if not arguments.only:
        report("api_fuzz", _rows(found), NOTES, seed=arguments.seed)
    broken = [promise for promise, kept in _promises(found, arguments.cases).items() if not kept]
    if broken:
        raise SystemExit("broken: " + "; ".join(broken))


NOTES = (
    "schemathesis: examples, boundary values, random and mutated requests, and chains of requests that use each "
    "other's answers, over HTTP to a server process with 300 replies in its store."
)


def measure(cases: int, seed: int, only: str = "") -> Found:
    """Ask a server at least `cases` things. Raises RuntimeError if it dies."""
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-fuzz-") as name:
        folder = Path(name).resolve()
        with Store.open(f"sqlite:///{folder / 'thumbwise.db'}") as store:
            seed_store(store, replies=REPLIES, events=EVENTS, seed=seed)
            callers = callers_of(store, ADMIN_TOKEN)
        with running_server(folder, "--trainer") as server:
            return fuzz(f"http://127.0.0.1:{server.port}", callers, cases=cases, seed=seed, only=only)


def _rows(found: Found) -> list[Row]:
    return [
        Row("requests", found.cases, unit="requests"),
        *(Row(f"… with {name}", count, unit="requests") for name, count in found.by_caller.items()),
        Row("routes", len(found.routes), unit="routes"),
        Row("… that did what was asked at least once", len(found.routes_that_answered), unit="routes"),
        Row("answers of 5xx", found.server_errors, unit="answers"),
        Row("no answer at all", found.unanswered, unit="requests"),
        Row("answers that are not as the document says", found.breaches, unit="answers"),
        Row("let in without the right", found.judged["let in without the right"], unit="answers"),
        Row("refused with the right", found.judged["refused with the right"], unit="answers"),
    ]


def _promises(found: Found, cases: int) -> dict[str, bool]:
    return {
        f"{cases:,} requests": found.cases >= cases,
        "no answer of 5xx": found.server_errors == 0,
        "every request is answered": found.unanswered == 0,
        "every answer is as the document says": found.breaches == 0,
        "nobody is let in or refused wrongly": not any(found.judged.values()),
        "the admin came through": found.by_caller[ADMIN] > 0 and bool(found.routes_that_answered),
        "schemathesis itself did not fail": not found.errors,
    }


if __name__ == "__main__":
    main()
