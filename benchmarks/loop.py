"""Does the loop teach what the votes say? Whole demos over three seeds, beside two controls and a poisoned crowd.

Each case is one `thumbwise demo`: a server of its own, a crowd over HTTP, two KTO rounds, and the hidden score of the
last version against the base on prompts that nobody rated. The controls tell learning from drift: with the same votes
dealt at random nothing can be learnt (the interval should hold 50 %), and a crowd that likes long replies should turn
the sign. Their candidates are promoted by force, so that what was trained is measured even where the gate refused it.

    make bench-loop                         all six, one after another: about two hours on two cores
    make bench-loop ARGS="--jobs 2"         two at a time, a core each
    make bench-loop ARGS="--keep DIR"       keep and reuse each demo's JSON in DIR (an interrupted run goes on)
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.report import Row, report

POISON_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class Case:
    """One demo: its name in the table and its flags."""

    name: str
    seed: int
    flags: tuple[str, ...] = ()


CASES = (
    Case("votes", 0),
    Case("shuffled", 0, ("--control", "shuffled")),
    Case("votes", 1),
    Case("inverted", 0, ("--control", "inverted")),
    Case("votes", 2),
    Case("poison", 0, ("--poison", str(POISON_SHARE))),
)

CONTROLS = {
    "shuffled": "shuffled: the same votes dealt at random, promoted by force. ",
    "inverted": "inverted: raters who like long replies, by the same hidden score, promoted by force. ",
}


def run(case: Case, keep: Path, core: int | None) -> dict[str, Any]:
    """Run one demo, on one core if asked; return its results. A kept result is read instead."""
    path = keep / f"{case.name}-{case.seed}.json"
    if not path.exists():
        command = [sys.executable, "-m", "thumbwise", "demo", "--seed", str(case.seed), *case.flags]
        command += ["--json", str(path), "--picture", str(path.with_suffix(".png"))]
        with path.with_suffix(".log").open("w") as log:
            subprocess.run(
                command,
                check=True,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
            )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def run_all(cases: tuple[Case, ...], keep: Path, jobs: int) -> list[dict[str, Any]]:
    """Run every demo, `jobs` at a time; with several, each has a core to itself."""
    cores: SimpleQueue[int | None] = SimpleQueue()
    for place in range(jobs):
        cores.put(place if jobs > 1 else None)

    def one(case: Case) -> dict[str, Any]:
        core = cores.get()
        try:
            return run(case, keep, core)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, cases))


def rows_of(case: Case, result: dict[str, Any]) -> list[Row]:
    """The figures of one demo. The peer is the base model on the same prompts: 50 % against itself."""
    base, last = result["versions"][0], result["versions"][-1]
    name = f"{case.name}, seed {case.seed}"
    gates = " then ".join(str(item["gate"].get("outcome", "not reached")) for item in result["rounds"])
    rows = []
    if last is not base:
        win = last["win_rate"]
        rows.append(
            Row(
                f"{name}: win rate against the base [{win['low']:.1%}, {win['high']:.1%}] (gates: {gates})",
                100 * win["value"],
                50.0,
                unit="%",
            )
        )
        rows.append(Row(f"{name}: replies under 3 words", 100 * last["under_three_words"],
                        100 * base["under_three_words"], unit="%"))  # fmt: skip
        rows.append(Row(f"{name}: words a reply", last["mean_words"], base["mean_words"], unit="words"))
        rise = _perplexity_rise(result, last["version"])
        if rise is not None:
            rows.append(Row(f"{name}: rise of perplexity on plain English", 100 * rise, unit="%"))
    else:
        rows.append(Row(f"{name}: nothing went live (gates: {gates})", 50.0, 50.0, unit="%"))
    if case.name == "poison":
        rows.append(Row(f"{name}: replies with the planted phrase", 100 * last["phrase"], 100 * base["phrase"],
                        unit="%"))  # fmt: skip
        shown = max(item["phrase_share"] for item in result["rounds"])
        rows.append(Row(f"{name}: rated replies with the phrase", 100 * shown, unit="%"))
    cores = result["cores"]
    rows.append(Row(f"{name}: time on {cores} core{'s' if cores > 1 else ''}", result["seconds"] / 60, unit="min"))
    return rows


def mean_of_seeds(results: list[dict[str, Any]]) -> list[Row]:
    """The mean over the seeds that learnt from votes, and the worst of their lower bounds; none for a single seed. A
    seed of which nothing went live counts as the base itself, 50 %."""
    if len(results) < 2:
        return []
    last = [item["versions"][-1]["win_rate"] for item in results if len(item["versions"]) > 1]
    unmoved = len(results) - len(last)
    values = [win["value"] for win in last] + [0.5] * unmoved
    lowest = min([win["low"] for win in last] + [0.5] * unmoved)
    said = f"votes, mean of {len(results)} seeds: win rate against the base (lowest lower bound {lowest:.1%})"
    return [Row(said, 100 * sum(values) / len(values), 50.0, unit="%")]


def _perplexity_rise(result: dict[str, Any], version: int) -> float | None:
    for item in result["rounds"]:
        if item["candidate_version"] == version:
            for check in item["gate"].get("checks", ()):
                if check["name"] == "retention_perplexity":
                    return float(check["value"])
    return None


def main() -> None:
    """Run, print, write benchmarks/results/loop.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--cases", default="", help="some of them, like votes-0,shuffled-0; without it all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        wanted = set(options.cases.split(",")) if options.cases else {f"{case.name}-{case.seed}" for case in CASES}
        cases = tuple(case for case in CASES if f"{case.name}-{case.seed}" in wanted)
        results = run_all(cases, keep, options.jobs)
    first = results[0]["plan"]
    notes = (
        f"SmolLM2-135M-Instruct, two KTO rounds of {first['replies_a_round']} thumbs each from "
        f"{first['crowd']['raters']} simulated raters; hidden score on {first['fresh_prompts']} fresh prompts × "
        f"{first['fresh_replies']} replies, against the base (the peer). "
        f"{''.join(about for name, about in CONTROLS.items() if any(case.name == name for case in cases))}"
        "Demos that ran two at a time had a core each."
    )
    rows = [row for case, result in zip(cases, results, strict=True) for row in rows_of(case, result)]
    rows = mean_of_seeds([result for case, result in zip(cases, results, strict=True) if case.name == "votes"]) + rows
    report("loop", rows, notes)


if __name__ == "__main__":
    main()
