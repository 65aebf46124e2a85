"""A gate's report as a table: each check with what was found, what was wanted, and how it judged."""

from collections.abc import Mapping
from typing import Any

from thumbwise.cli.say import print_table, to_stdout

COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def outcome_of(report: Mapping[str, Any]) -> str:
    """Return pass, fail or inconclusive; "unknown" where the report says neither."""
    return str(report.get("outcome") or "unknown")


def print_gate(report: Mapping[str, Any]) -> None:
    """Print a report: every check's figures, and in words those that did not pass."""
    outcome = outcome_of(report)
    out = to_stdout()
    out.print(f"gate: [{COLOURS.get(outcome, 'bold')}]{outcome}[/]")
    for before in report.get("steps") or ():
        out.print(f"a step twice as long was refused: {before['summary']}", markup=False, soft_wrap=True)
    checks = report.get("checks") or ()
    rows = [
        (
            check.get("name"),
            _spoken(check.get("value")),
            _spoken(check.get("interval")),
            _spoken(check.get("threshold")),
            check.get("outcome"),
            "blocks" if check.get("hard") else "warns",
        )
        for check in checks
    ]
    print_table(["check", "value", "interval", "threshold", "outcome", "it"], rows, "The report holds no checks.")
    for check in checks:
        if check.get("outcome") != "pass":
            out.print(f"{check.get('name')}: {check.get('reason')}", markup=False, soft_wrap=True)
    for title, key in (("what to do next", "next"), ("what this gate cannot prove", "cannot_prove")):
        if lines := report.get(key):
            out.print(f"[bold]{title}[/]")
            for line in lines:
                out.print(f"  {line}", markup=False, soft_wrap=True)
    if estimate := report.get("counterfactual"):
        out.print(
            f"estimated share of thumbs up {estimate['up_share']:.0%} (live {estimate['live_up_share']:.0%}), from "
            f"{estimate['effective_votes']:.0f} effective votes of {estimate['votes']}: {estimate['note']}",
            soft_wrap=True,
        )


def _spoken(value: Any) -> str:
    """A number to four digits, an interval as [low, high], nothing for None."""
    if isinstance(value, list | tuple) and len(value) == 2:
        return f"[{_spoken(value[0])}, {_spoken(value[1])}]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:.4g}"
