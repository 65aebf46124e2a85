"""A benchmark's result: ours beside a peer's, and where it was measured."""

import json
from pathlib import Path

import pytest

from benchmarks.report import Row, report
from scripts.measured import BEGIN, END, HEADLINES, document, filled
from scripts.measured import results as found_results


def test_a_result_holds_rows_machine_and_seed_and_computes_the_ratio(tmp_path: Path) -> None:
    path = report("votes", [Row("32 connections", 3000, 1500, unit="votes/s")], "Why.", seed=4, results=tmp_path)
    result = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == "votes.json"
    assert result["rows"] == [
        {"case": "32 connections", "ours": 3000, "peer": 1500, "ratio": 2.0, "unit": "votes/s"},
    ]
    assert result["seed"] == 4
    assert {"processor", "cores", "memory_gib", "gpu", "python", "versions"} <= set(result["machine"])


def test_a_row_without_a_peer_has_no_ratio(tmp_path: Path) -> None:
    result = json.loads(report("alone", [Row("swap", 0.8, unit="s")], results=tmp_path).read_text(encoding="utf-8"))
    assert result["rows"][0]["ratio"] is None


def test_nothing_measured_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows"):
        report("empty", [], results=tmp_path)
    with pytest.raises(ValueError, match="names a file"):
        report("../elsewhere", [Row("a", 1)], results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_result_is_shown_with_its_peer_and_machine(tmp_path: Path) -> None:
    rows = [Row("durable votes at 32", 3000, 1500, unit="votes/s"), Row("a detail", 1, unit="ms")]
    path = report("votes", rows, "Peer: plain.", seed=4, results=tmp_path)
    results = [json.loads(path.read_text(encoding="utf-8"))]
    page = document(results)
    assert "| durable votes at 32 | 3,000 | 1,500 | × 2 | votes/s |" in page and "| a detail |" in page
    assert "Peer: plain. `make bench-votes` on" in page
    assert "seed 4" in page
    front = filled(f"before\n{BEGIN}\nold\n{END}\nafter", results)
    assert "| durable votes at 32 | 3,000 | 1,500 | × 2 | votes/s | `make bench-votes` |" in front
    assert "old" not in front and "a detail" not in front
    assert front.startswith("before\n") and front.endswith("\nafter")


def test_every_headline_is_a_row_of_its_benchmark() -> None:
    """A case that was renamed would vanish from the README without a word."""
    for result in found_results():
        for beginning in HEADLINES.get(result["name"], ()):
            assert any(row["case"].startswith(beginning) for row in result["rows"]), (result["name"], beginning)


def test_filling_twice_changes_nothing(tmp_path: Path) -> None:
    results = [json.loads(report("votes", [Row("durable votes", 1)], results=tmp_path).read_text(encoding="utf-8"))]
    once = filled(f"{BEGIN}\n{END}", results)
    assert filled(once, results) == once
