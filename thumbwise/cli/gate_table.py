"""A gate's report as a table: each check with what was found, what was wanted, and how it judged."""

from collections.abc import Mapping
from typing import Any

from thumbwise.cli.say import print_table, to_stdout

COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def outcome_of(report: Mapping[str, Any]) -> str:
    """Return pass, fail or inconclusive; "unknown" where the report says neither."""
    return str(report.get("outcome") or "unknown")


def print_gate(report: Mapping[str, Any]) -> None:
    """Print a report."""
    outcome = outcome_of(report)
    out = to_stdout()
    out.print(f"gate: [{COLOURS.get(outcome, 'bold')}]{outcome}[/]")
    if summary := report.get("summary"):
        out.print(f"  {summary}", markup=False, soft_wrap=True)
    checks = report.get("checks") or ()
    rows = [
        (check.get("name"), _spoken(check.get("value")), _spoken(check.get("interval")),
         _spoken(check.get("threshold")), check.get("outcome"), "" if check.get("hard") else "warns",
         check.get("reason"))
        for check in checks
    ]  # fmt: skip
    print_table(["check", "value", "interval", "threshold", "outcome", "", "why"], rows, "The report holds no checks.")


def _spoken(value: Any) -> str:
    """A number to four digits, an interval as [low, high], nothing for None."""
    if isinstance(value, list | tuple) and len(value) == 2:
        return f"[{_spoken(value[0])}, {_spoken(value[1])}]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:.4g}"
