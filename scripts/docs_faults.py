"""The last column of docs/faults.md where a benchmark fills it: from benchmarks/results, never by hand.

The rest of the page is written by people. A row's command says which benchmark, and with `--kills` how much of it:
fewer kills than that are not this row's result.
"""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, figure

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "faults.md"
NOT_YET = "not run yet"
MEASURES = ("ms", "s", "%", "MiB")
"""Units that are told; a count's unit stands in its case."""
VOTES = ("kill -9", "acknowledged votes", "… lost", "… doubled")
SHOWN = {
    "kills": VOTES,
    "kills_postgres": VOTES,
    "telegram_kills": ("kill -9", "confirmed updates", "… lost", "… doubled"),
    "swaps": ("replies broken off",),
    "load": ("1,000 people", "errors", "… lost", "… doubled", "99 % of the waits", "… its slope"),
    "trust": ("one account", "a ring that", "corrections"),
    "api_fuzz": ("requests", "answers of 5xx", "answers that are not", "let in", "refused with"),
    "faults": ("… lost", "… doubled", "replies delivered", "back to normal", "longest until", "small file system"),
}
"""Rows of a benchmark whose case begins so; of one that is not named, all."""
PARTS = {"--due 0": ("killed at",), "--times 0": ("rounds for", "…")}
"""The same for a command that asks for a part of bench-rounds."""


def text() -> str:
    """Return the page as it should be now."""
    return filled(PAGE.read_text(encoding="utf-8"))


def filled(page: str, results: Path = RESULTS) -> str:
    """Return `page` with the result of every benchmark that a row of its table names."""
    return "".join(_row(line, results) for line in page.splitlines(keepends=True))


def _row(line: str, results: Path) -> str:
    command = re.match(r"\| .* \| `make bench-(\w+)([^`]*)` \| .* \| .* \|\n", line)
    if command is None:
        return line
    before = line.rstrip(" |\n").rpartition(" | ")[0]
    return f"{before} | {_said(command[1], command[2], results)} |\n"


def _said(name: str, options: str, results: Path) -> str:
    name += "_postgres" if "--postgres" in options else ""
    path = results / f"{name}.json"
    if not path.is_file():
        return NOT_YET
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = result["rows"]
    asked = re.search(r"--kills (\d+)", options)
    if asked and rows[0]["ours"] < int(asked[1]):
        return NOT_YET
    shown = next((part for option, part in PARTS.items() if option in options), SHOWN.get(name))
    said = [
        f"{row['case']} {figure(row['ours'])}" + (f" {row['unit']}" if row.get("unit") in MEASURES else "")
        for row in rows
        if shown is None or row["case"].startswith(shown)
    ]
    return f"{'; '.join(said)} ({result['measured_at'][:10]})"
