"""docs/faults.md cannot lie: what it names exists, and "not run yet" is said of nothing that was run."""

import re
from pathlib import Path

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


def test_every_benchmark_it_names_exists_and_only_one_without_results_was_not_run() -> None:
    for row in ROWS:
        for name in re.findall(r"`make bench-(\w+)", row):
            assert (ROOT / "benchmarks" / f"{name}.py").is_file(), name
            results = ROOT / "benchmarks" / "results" / f"{name}.json"
            if "ARGS" not in row:  # a longer form of a benchmark that was run in its usual one may still be to come
                assert results.is_file() != row.endswith("| not run yet |"), f"{name}: say what {results.name} says"


def test_every_row_says_how_how_often_and_what_came_out() -> None:
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("| ").split(" | ")]
        assert len(cells) == 4 and all(cells), row
