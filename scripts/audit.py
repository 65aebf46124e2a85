"""Ask the open database of weaknesses (OSV) about every package that is pinned: `make audit`.

    0   none is known, or all that are known stand in scripts/audit-accepted.txt with a reason
    1   some are known: each with its package, its name and the version that mends it
    0   the database could not be asked: it says so, and that nothing was checked. With --must-reach: 2, for a build
        that is to fail then (a machine without a network shall still be able to work)

Only names and versions of public packages are sent, in one request; nothing of this checkout. No package is needed for
it: the database speaks JSON, and what there is to compare (which versions are hit) it does itself.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.locked import Package, plain_name, read_locked

URL = "https://api.osv.dev"
ACCEPTED = Path(__file__).parent / "audit-accepted.txt"
TIMEOUT_S = 20.0
MOST_AT_ONCE = 500
"""Questions in a request: the database takes a thousand."""
LARGEST_ANSWER_BYTES = 16 * 2**20


class Unreachable(Exception):
    """The database gave no answer that can be read."""


@dataclass(frozen=True, slots=True)
class Weakness:
    """One known weakness of one pinned package. `mended_in`: versions without it, "" where none is said."""

    package: Package
    name: str
    aliases: tuple[str, ...]
    summary: str
    mended_in: str


def main() -> int:
    """Ask, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=URL, help="of another database that speaks OSV's API, such as a mirror")
    parser.add_argument("--must-reach", action="store_true", help="end with 2 where the database cannot be asked")
    arguments = parser.parse_args()
    packages = read_locked()
    try:
        found = weaknesses_of(packages, arguments.url)
    except Unreachable as error:
        print(f"audit: NOTHING WAS CHECKED: the database at {arguments.url} could not be asked ({error}).")
        print("audit: run `make audit` again where there is a network.")
        return 2 if arguments.must_reach else 0
    accepted = accepted_of(ACCEPTED.read_text(encoding="utf-8"))
    open_ones = [one for one in found if not {one.name, *one.aliases} & accepted.keys()]
    for one in open_ones:
        mended = f"mended in {one.mended_in}" if one.mended_in else "no version is known to be without it"
        print(f"audit: {one.package.name} {one.package.version}: {one.name} {one.summary} ({mended})")
    known = {name for one in found for name in (one.name, *one.aliases)}
    for name in sorted(accepted.keys() - known):
        print(f"audit: {name} is accepted in {ACCEPTED.name} and concerns nothing any more: remove its line")
    said = f"{len(open_ones)} known weaknesses" if open_ones else "no known weakness"
    print(f"audit: {len(packages)} packages, {said}, {len(found) - len(open_ones)} accepted")
    return 1 if open_ones else 0


def weaknesses_of(packages: Sequence[Package], url: str) -> list[Weakness]:
    """Return what the database knows, by package. Raises Unreachable."""
    found: list[Weakness] = []
    for start in range(0, len(packages), MOST_AT_ONCE):
        part = packages[start : start + MOST_AT_ONCE]
        asked = [
            {"package": {"ecosystem": "PyPI", "name": package.name}, "version": package.version} for package in part
        ]
        results = _list(_asked(f"{url}/v1/querybatch", {"queries": asked}), "results")
        if len(results) != len(part):
            raise Unreachable(f"it answered {len(results)} of {len(part)} questions")
        for package, result in zip(part, results, strict=True):
            if result.get("next_page_token"):
                raise Unreachable(f"its answer on {package.name} has a second page, which is not read here")
            for named in _list(result, "vulns"):
                found.append(_weakness(package, _asked(f"{url}/v1/vulns/{named['id']}")))
    return found


def accepted_of(text: str) -> dict[str, str]:
    """Return the names that the file accepts, with the reasons. Raises ValueError for one without a reason."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, reason = line.partition("#")
        if name.strip():
            if not reason.strip():
                raise ValueError(f"{name.strip()} is accepted without a reason; wanted: NAME # why, and until when")
            found[name.strip()] = reason.strip()
    return found


def _weakness(package: Package, told: dict[str, Any]) -> Weakness:
    mended = {
        str(event["fixed"])
        for affected in _list(told, "affected")
        if plain_name(str((affected.get("package") or {}).get("name", ""))) == package.name
        for span in _list(affected, "ranges")
        if span.get("type") != "GIT"
        for event in _list(span, "events")
        if "fixed" in event
    }
    summary = str(told.get("summary") or told.get("details") or "").strip().splitlines()
    aliases = tuple(str(alias) for alias in told.get("aliases") or ())
    return Weakness(
        package, str(told.get("id")), aliases, summary[0][:160] if summary else "", ", ".join(sorted(mended))
    )


def _asked(url: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask one address; with a question, by POST. Raises Unreachable."""
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            found = json.loads(answer.read(LARGEST_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        raise Unreachable(f"it answered {error.code}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}"[:200]) from error
    if not isinstance(found, dict):
        raise Unreachable("its answer is not as its documentation says")
    return found


def _list(told: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = told.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Unreachable("its answer is not as its documentation says")
    return found


if __name__ == "__main__":
    sys.exit(main())
