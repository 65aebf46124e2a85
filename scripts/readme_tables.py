"""Fill README.md's measured tables from benchmarks/results/*.json, between the two `measured` marks.

No figure in the README is typed by hand: `make bench` and `make docs` run this, and tests/house holds the section to be
what the results say.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"


def filled(readme: str, results: list[dict[str, Any]]) -> str:
    """Return `readme` with the tables of `results` between its marks. Raises ValueError when a mark is missing."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"README.md must hold {BEGIN} and {END} exactly once each")
    before, _, rest = readme.partition(BEGIN)
    after = rest.partition(END)[2]
    tables = "\n".join(_table(result) for result in results) or "*Nothing measured yet: `make bench`.*\n"
    return f"{before}{BEGIN}\n{tables}{END}{after}"


def results() -> list[dict[str, Any]]:
    """Return the results files' contents, in the order of their names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]


def _table(result: dict[str, Any]) -> str:
    rows = result["rows"]
    has_peer = any(row["peer"] is not None for row in rows)
    head = ["", "ours", *(["peer", "ratio"] if has_peer else []), "unit"]
    lines = [f"**{result['name'].replace('_', ' ')}**", "", _line(head), _line(["---"] * len(head))]
    for row in rows:
        peer = [_figure(row["peer"]), _ratio(row["ratio"])] if has_peer else []
        lines.append(_line([row["case"], _figure(row["ours"]), *peer, row["unit"]]))
    about = [
        re.sub(r"\s+", " ", result["notes"]).strip(),
        f"`make bench-{result['name']}` on {_machine(result['machine'])}"
        + (f", seed {result['seed']}" if result["seed"] is not None else "")
        + f"; {result['measured_at'][:10]}.",
    ]
    return "\n".join([*lines, "", " ".join(part for part in about if part), ""]) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"× {_figure(value)}"


def _machine(machine: dict[str, Any]) -> str:
    parts = [f"{machine['cores']} cores of {machine['processor']}"]
    if machine["memory_gib"]:
        parts.append(f"{machine['memory_gib']:.0f} GiB")
    parts.append(machine["gpu"] or "no GPU")
    parts += [f"{package} {version.partition('+')[0]}" for package, version in machine["versions"].items()]
    return ", ".join(parts)


def main() -> int:
    """Rewrite README.md when its figures are not those of the results."""
    readme = README.read_text(encoding="utf-8")
    wanted = filled(readme, results())
    if wanted != readme:
        README.write_text(wanted, encoding="utf-8")
        print("readme_tables: README.md now shows the latest results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
