"""Let schemathesis's engine loose on a server, caller by caller, and count what came back."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from benchmarks._fuzz_callers import ADMIN, Caller, wrongly_answered

EXAMPLES = 4
"""Random requests a route and caller in a pass, and eight times as many of the admin's, who comes furthest; boundary
values and chains of requests come on top."""
MOST_PASSES = 40
KNOWN_SHARE = 0.5
"""How often an id in a request is one that the seeded store knows."""
KNOWN: dict[str, list[str | int]] = {
    "replies": [f"seeded-{number}" for number in range(0, 300, 7)],
    "comparisons": [f"pair-{number}" for number in range(300)],
    "talks": [f"talk-{number}" for number in range(1, 60)],
    "versions": [1, 2, 3, 4, 5, 6],
    "rounds": [1, 2, 3, 4, 5, 6, 7],
    "acts": list(range(1, 900, 31)),
    "quarantines": [1, 2, 3],
    "raters": ["anna", "berta"],
}
PLACES = {
    "path.reply_id": "replies",
    "path.conversation_id": "talks",
    "path.version": "versions",
    "path.round_id": "rounds",
    "path.feedback_id": "acts",
    "path.quarantine_id": "quarantines",
    "query.rater": "raters",
    "body.rater": "raters",
    "body.user": "raters",
    "body.reply_id": "replies",
    "body.comparison_id": "comparisons",
    "body.reference": "versions",
}


@dataclass(slots=True)
class Found:
    """What came back. `faults`: what was wrong → the first request that showed it, as a curl command."""

    cases: int = 0
    by_caller: Counter[str] = field(default_factory=Counter)
    routes: set[str] = field(default_factory=set)
    routes_that_answered: set[str] = field(default_factory=set)
    server_errors: int = 0
    unanswered: int = 0
    breaches: int = 0
    judged: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


@schemathesis.serializer("application/x-ndjson")
def one_line(context: Any, value: object) -> bytes:
    """The document says of an import that it is text; schemathesis has no writer for its content type."""
    return str(value).encode("utf-8", "surrogatepass")


def fuzz(url: str, callers: Sequence[Caller], *, cases: int, seed: int, only: str = "") -> Found:
    """Ask as each caller in turn, pass by pass with other seeds, until there were `cases` requests."""
    found = Found()
    by_header = {caller.headers.get("Authorization"): caller for caller in callers}
    for number in range(MOST_PASSES):
        for caller in callers:
            examples = EXAMPLES * (8 if caller.name == ADMIN else 1)
            before = found.cases
            for scenario in _scenarios(url, caller, seed + number, examples, found, only, first=number == 0):
                _count(found, scenario, by_header)
            found.by_caller[caller.name] += found.cases - before
            print(f"pass {number + 1}, {caller.name}: {found.cases:,} requests, {len(found.faults)} faults", flush=True)
        if found.cases >= cases:
            break
    return found


def _scenarios(
    url: str, caller: Caller, seed: int, examples: int, found: Found, only: str, *, first: bool
) -> Iterator[events.ScenarioFinished]:
    whole = schemathesis.openapi.from_url(f"{url}/openapi.json", config=_config(caller, seed, examples, first=first))
    schema = whole.include(lambda context: only in context.operation.label) if only else whole
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                yield event
            case events.NonFatalError():
                found.errors.append(f"{event.label}: {event.value!r}")
                found.faults.setdefault(f"{event.label}: schemathesis: {event.info.title}", repr(event.value)[:2000])
            case events.FatalError():
                raise RuntimeError("schemathesis gave up") from event.exception


def _config(caller: Caller, seed: int, examples: int, *, first: bool) -> SchemathesisConfig:
    """Boundary values are the same whatever seed and caller: they are sent in the first pass, as the admin, alone."""
    whole = caller.name == ADMIN
    config: dict[str, Any] = {
        "seed": seed,
        "headers": caller.headers,
        "continue-on-failure": True,
        "workers": 1,
        "request-timeout": 30,
        "suppress-health-check": ["all"],
        "generation": {
            "max-examples": examples,
            "no-shrink": True,
            "with-security-parameters": False,
            "database": "none",
        },
        "dictionaries": {name: {"values": values} for name, values in KNOWN.items()},
        "parameters": {place: {"dictionary": name, "probability": KNOWN_SHARE} for place, name in PLACES.items()},
        "phases": {
            "examples": {"enabled": first},
            "coverage": {"enabled": first and whole},
            "stateful": {"enabled": whole},
        },
        "checks": {
            # The document cannot say what settings limit (n, max_tokens), nor that a vote is exactly one act.
            "positive_data_acceptance": {"enabled": False},
            # Judged by our own table of rules, for every caller (benchmarks/_fuzz_callers.py).
            "ignored_auth": {"enabled": False},
        },
    }
    return SchemathesisConfig.from_dict(config)


def _count(found: Found, scenario: events.ScenarioFinished, callers: Mapping[str | None, Caller]) -> None:
    recorder = scenario.recorder
    for case_id, interaction in recorder.interactions.items():
        node = recorder.cases.get(case_id)
        if node is None:
            continue
        case = node.value
        route = case.operation.label
        found.cases += 1
        found.routes.add(route)
        if interaction.response is None:
            found.unanswered += 1
            found.faults.setdefault(f"{route}: no answer", case.as_curl_command())
            continue
        status = interaction.response.status_code
        if 200 <= status < 300:
            found.routes_that_answered.add(route)
        if status >= 500:
            found.server_errors += 1
        sent = {name: values[0] for name, values in interaction.request.headers.items()}
        as_declared = case.method.upper() == case.operation.method.upper()
        if as_declared and (wrong := wrongly_answered(route, status, sent, callers)):
            found.judged[wrong] += 1
            found.faults.setdefault(f"{route}: {status}: {wrong}", case.as_curl_command(headers=sent))
    for checks in recorder.checks.values():
        failed = [check for check in checks if check.status == Status.FAILURE]
        found.breaches += bool(failed)
        for check in failed:
            info = check.failure_info
            assert info is not None
            what = f"{recorder.label}: {check.name}: {info.failure.title}: {info.failure.message[:300]}"
            found.faults.setdefault(what, info.code_sample)
