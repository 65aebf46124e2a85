"""`thumbwise raters …`: who can be trusted, what waits in quarantine, and who wants to be forgotten."""

from pathlib import Path

import click

from thumbwise.cli.connection import connect, json_option, server_options
from thumbwise.cli.erasing import erase
from thumbwise.cli.say import FriendlyGroup, escaped, print_json, print_table, to_stdout


@click.group("raters", cls=FriendlyGroup)
def raters() -> None:
    """See how far raters agree, decide about feedback in quarantine, erase somebody."""


@raters.command("trust")
@server_options
@json_option
def trust(data_dir: Path, url: str | None, as_json: bool) -> None:
    """Show how far raters agree, who can be told to be reliable, and what looks like false feedback."""
    with connect(data_dir, url) as client:
        found = client.trust()
    if as_json:
        print_json(found)
        return
    out, alpha = to_stdout(), found["agreement"]
    if alpha["alpha"] is None:
        out.print(f"{found['raters']} raters; too few of them judged the same to say how far they agree")
    else:
        interval = "" if alpha["low"] is None else f" ({alpha['low']:.2f} to {alpha['high']:.2f})"
        out.print(f"{found['raters']} raters; agreement α {alpha['alpha']:.2f}{interval} on {alpha['units']} targets")
    for finding in found["findings"]:
        out.print(f"[yellow]{finding['signal']}[/]: {escaped(finding['reason'])}")
    print_table(
        ["rater", "agreed with others", "of", "at least", "at most"],
        [(one["rater_id"], one["agreed"], one["shared"], f"{one['low']:.0%}", f"{one['high']:.0%}")
         for one in found["profiled"]],
        "No rater has enough votes in common with others to be told apart.",
    )  # fmt: skip
    if found["waiting"]:
        out.print(f"{found['waiting']} quarantines wait for a decision: thumbwise raters quarantine")


@raters.command("quarantine")
@click.option("--all", "everything", is_flag=True, help="Those that were decided too.")
@server_options
@json_option
def quarantine(everything: bool, data_dir: Path, url: str | None, as_json: bool) -> None:
    """List the feedback that trains nothing until somebody decides."""
    with connect(data_dir, url) as client:
        found = client.quarantines(open_only=not everything)
    if as_json:
        print_json(found)
        return
    print_table(
        ["quarantine", "rater", "act", "signal", "why", "decision"],
        [(one["quarantine_id"], one["rater_id"], one["feedback_id"] or "all", one["signal"], one["reason"],
          one["decision"] or "waits") for one in found],
        "Nothing is in quarantine.",
    )  # fmt: skip


@raters.command("release")
@click.argument("quarantine_id", type=click.IntRange(1))
@server_options
def release(quarantine_id: int, data_dir: Path, url: str | None) -> None:
    """Let the feedback of a quarantine train again."""
    _decide(quarantine_id, "released", data_dir, url)


@raters.command("keep")
@click.argument("quarantine_id", type=click.IntRange(1))
@server_options
def keep(quarantine_id: int, data_dir: Path, url: str | None) -> None:
    """Leave the feedback of a quarantine out for good."""
    _decide(quarantine_id, "kept", data_dir, url)


raters.add_command(erase)


def _decide(quarantine_id: int, decision: str, data_dir: Path, url: str | None) -> None:
    with connect(data_dir, url) as client:
        client.decide_quarantine(quarantine_id, decision)
    to_stdout().print(f"quarantine {quarantine_id} is {decision}")
