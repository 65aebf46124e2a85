"""docs/faults.md cannot lie: what it names exists. (Its figures are held to the results with the other documents.)"""

import json
import re
from pathlib import Path

from scripts.docs_faults import filled

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]


def test_every_test_it_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", PAGE)
    assert len(named) > 40
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file()
        or not re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not missing


def test_every_benchmark_it_names_exists() -> None:
    named = set(re.findall(r"`make bench-(\w+)", PAGE))
    assert named and not {name for name in named if not (ROOT / "benchmarks" / f"{name}.py").is_file()}


def test_what_a_benchmark_found_is_told_and_fewer_kills_are_not_the_long_form(tmp_path: Path) -> None:
    rows = [{"case": "kill -9 of the server", "ours": 100}, {"case": "… lost", "ours": 0}, {"case": "other", "ours": 1}]
    result = {"measured_at": "2026-11-21T10:10:39+00:00", "rows": rows}
    (tmp_path / "kills.json").write_text(json.dumps(result), encoding="utf-8")
    page = (
        "| a | `make bench-kills` | 100 kills | stale |\n"
        '| b | `make bench-kills ARGS="--kills 500"` | 500 kills | stale |\n'
        '| c | `make bench-kills ARGS="--postgres"` | 100 kills | stale |\n'
        "| d | `tests/store/test_kill.py::test_one` | 5 kills | in the suite |\n"
    )
    told = [line.strip("| ").split(" | ")[-1] for line in filled(page, tmp_path).splitlines()]
    assert told == ["kill -9 of the server 100; … lost 0 (2026-11-21)", "not run yet", "not run yet", "in the suite"]


def test_every_row_says_how_how_often_and_what_came_out() -> None:
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("| ").split(" | ")]
        assert len(cells) == 4 and all(cells), row
