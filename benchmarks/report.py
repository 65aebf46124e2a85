"""What every benchmark ends with: a table for people, and benchmarks/results/NAME.json for the README.

A figure alone says little, so a row holds our value beside a peer's, measured in the same run on the same machine, and
the ratio of the two. The peer may be the plain way of doing it (one commit per request, one reply at a time). The file
names machine, versions, seed and commit; README tables are filled from these files by scripts/measured.py, never
by hand.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SCHEMA = 1
"""Raised when a field of the results file changes its meaning."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case. `ratio` is ours over the peer's in the sense that the unit gives it (for `votes/s` above 1 is
    better, for `ms` below 1 is): left out, it is computed. None where there is no peer."""

    case: str
    ours: float
    peer: float | None = None
    ratio: float | None = None
    unit: str = ""


def report(
    name: str, rows: Sequence[Row], notes: str = "", *, seed: int | None = None, results: Path = RESULTS
) -> Path:
    """Print `rows` as a table, write them to `results`/NAME.json and return that path.

    `notes` says in a sentence or two what was measured and who the peer is; it stands below the table in the README.
    Raises ValueError for a name that is no file name or for no rows: an empty result would look like a measured one.
    """
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"name is {name!r}, wanted letters, digits, - and _: it names a file")
    if not rows:
        raise ValueError(f"benchmark {name!r} has no rows: nothing was measured, so nothing is written")
    whole = [_with_ratio(row) for row in rows]
    result = {
        "schema": SCHEMA,
        "name": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "seed": seed,
        "machine": machine(),
        "notes": notes,
        "rows": [asdict(row) for row in whole],
    }
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(text_table(name, whole, notes))
    return path


def machine() -> dict[str, Any]:
    """Describe this machine by what makes figures comparable: never by its name or its paths."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {
            package: version for package in ("torch", "transformers", "trl") if (version := _version(package))
        },
    }


def figure(value: float | None) -> str:
    """Write a number with three significant digits, thousands parted; a dash for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def text_table(name: str, rows: Sequence[Row], notes: str = "") -> str:
    """Draw rows as fixed-width text."""
    head = ("case", "ours", "peer", "ratio", "unit")
    body = [(row.case, figure(row.ours), figure(row.peer), figure(row.ratio), row.unit) for row in rows]
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *body)]
    rule = "-" * len(lines[0])
    return "\n".join([f"\n{name}", rule, lines[0], rule, *lines[1:], rule, *([notes] if notes else [])])


def _with_ratio(row: Row) -> Row:
    if row.ratio is not None or not row.peer:
        return row
    return Row(case=row.case, ours=row.ours, peer=row.peer, ratio=row.ours / row.peer, unit=row.unit)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the short commit, with a + when tracked files differ from it; None outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _gpu() -> str | None:
    torch = sys.modules.get("torch")  # asked only of a benchmark that uses torch: importing it costs seconds
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))
