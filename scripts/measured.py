"""Write docs/measured.md from benchmarks/results/*.json, and the figures of it that README.md and README.zh-CN.md show
between their marks, and the capacity table of docs/operations.md, which is derived from them.

No figure in them is typed by hand: `make bench` and `make docs` run this, and tests/house holds them to be what
the results say.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from scripts import capacity, measured_words

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
README_ZH = ROOT / "README.zh-CN.md"
MEASURED = ROOT / "docs" / "measured.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"
HEADLINES = {
    "loop": (
        "votes, mean of 3 seeds",
        "shuffled, seed 0: win rate",
        "inverted, seed 0: win rate",
        "votes, seed 0: time",
    ),
    "methods": tuple(
        f"{name}, votes, mean of" for name in ("KTO", "DPO", "SFT", "reward model + PPO", "reward model + GRPO")
    ),
    "serving": (
        "1 stream; transformers generate, adapter merged",
        "16 streams; transformers generate, adapter merged",
        "16 streams; vLLM",
        "first token (p95) at 16 streams; transformers generate, adapter merged",
    ),
    "sharing": ("chat at 4 streams",),
    "training": ("KTO: stock trl", "DPO: stock trl", "reward model: stock trl", "PPO"),
    "swaps": ("99 % of the waits",),
    "votes": ("durable votes",),
    "kills": ("acknowledged votes", "… lost", "… doubled"),
    "gateway": ("99 % of the replies",),
    "review": (
        "SQLite: thumbs down of version 4 about a word, 95 % within",
        "PostgreSQL: thumbs down of version 4 about a word, 95 % within",
    ),
    "gate_roc": ("nothing learnt, promoted", "planted and moved ten points"),
    "round_time": ("a KTO round over 200 thumbs",),
    "start": ("start until the first message",),
}
"""What README.md shows of each benchmark: rows whose case begins so."""
ABOUT = """# Measured

Every table is written by `make bench-NAME` on the machine that it names, by the rules of
[../benchmarks/README.md](../benchmarks/README.md). Where there is a peer, it ran in the same minutes beside us.
What was tried and did not work is in [log.md](log.md).
"""


def filled(readme: str, results: list[dict[str, Any]], *, chinese: bool = False) -> str:
    """Return `readme` with the headlines of `results` between its marks. Raises ValueError when a mark is missing."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"README.md must hold {BEGIN} and {END} exactly once each")
    before, _, rest = readme.partition(BEGIN)
    after = rest.partition(END)[2]
    head = measured_words.HEAD if chinese else ("", "ours", "peer", "ratio", "unit", "by")
    say = measured_words.in_chinese if chinese else str
    units = measured_words.UNITS if chinese else {}
    lines = [_line([*head]), _line(["---"] * 6)]
    for result in results:
        wanted = HEADLINES.get(result["name"], ())
        rows = [row for row in result["rows"] if row["case"].startswith(wanted)] if wanted else []
        by = f"`make bench-{result['name']}`"
        lines += [
            _line(
                [
                    say(row["case"]),
                    _figure(row["ours"]),
                    _figure(row["peer"]),
                    _ratio(row["ratio"]),
                    units.get(row["unit"], row["unit"]),
                    by,
                ]
            )
            for row in rows
        ]
    table = "\n".join(lines) + "\n" if len(lines) > 2 else "*Nothing measured yet: `make bench`.*\n"
    return f"{before}{BEGIN}\n{table}{END}{after}"


def document(results: list[dict[str, Any]]) -> str:
    """Return docs/measured.md: every table, with what was measured and on which machine."""
    return "\n".join([ABOUT, *(_table(result) for result in results)]).rstrip() + "\n"


def results() -> list[dict[str, Any]]:
    """Return the results files' contents, in the order of their names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]


def _table(result: dict[str, Any]) -> str:
    rows = result["rows"]
    has_peer = any(row["peer"] is not None for row in rows)
    head = ["", "ours", *(["peer", "ratio"] if has_peer else []), "unit"]
    lines = [f"## {result['name'].replace('_', ' ').capitalize()}", "", _line(head), _line(["---"] * len(head))]
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
    """Rewrite the READMEs and docs/measured.md when their figures are not those of the results."""
    found = results()
    wanted_of = {
        path: filled(path.read_text("utf-8"), found, chinese=path == README_ZH) for path in (README, README_ZH)
    }
    wanted_of[capacity.OPERATIONS] = capacity.filled(capacity.OPERATIONS.read_text("utf-8"), found)
    for path, wanted in (*wanted_of.items(), (MEASURED, document(found))):
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            path.write_text(wanted, encoding="utf-8")
            print(f"measured: {path.name} now shows the latest results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
