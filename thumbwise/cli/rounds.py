"""`thumbwise round …` and `thumbwise readiness`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thumbwise.cli.connection import connect, json_option, server_options
from thumbwise.cli.gate_table import print_gate
from thumbwise.cli.say import Failure, FriendlyGroup, escaped, local_time, print_json, print_table, to_stderr, to_stdout

if TYPE_CHECKING:
    from thumbwise.client import Round, Thumbwise

POLL_S = 1.0
METHODS = ("sft", "kto", "dpo", "reward", "ppo", "grpo")
"""As `feedback_store.records.Method`, which the command does not import to start quickly."""


@click.group("round", cls=FriendlyGroup)
def round_group() -> None:
    """Train a new policy from the votes, and look at how it went."""


@round_group.command("start")
@click.option("--method", type=click.Choice(METHODS), help="Without it: as the settings say.")
@click.option("--force", is_flag=True, help="Ask for it although there is little feedback.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Show its progress until it has ended.")
@server_options
@json_option
def start(method: str | None, force: bool, wait: bool, data_dir: Path, url: str | None, as_json: bool) -> None:
    """Ask for a round: select, train, gate, and go live if it passed."""
    with connect(data_dir, url) as client:
        found = client.start_round(method, force=force)
        if wait:
            found = follow(client, found)
        _print_round(found, as_json)
    if wait and found.state in ("failed", "rejected"):
        raise SystemExit(1)


@round_group.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@server_options
@json_option
def list_rounds(limit: int, data_dir: Path, url: str | None, as_json: bool) -> None:
    """List the rounds, the newest first."""
    with connect(data_dir, url) as client:
        found = client.rounds(limit)
    if as_json:
        print_json([_as_dict(item) for item in found])
        return
    print_table(
        ["round", "state", "method", "candidate", "asked by", "asked at", "why it ended so"],
        [
            (item.round_id, item.state, item.method or "auto", item.candidate_version, item.requested_by,
             local_time(item.requested_at), _first_clause(item.reason))
            for item in found
        ],
        "No round yet: thumbwise round start",
    )  # fmt: skip


@round_group.command("show")
@click.argument("round_id", type=click.IntRange(1))
@server_options
@json_option
def show(round_id: int, data_dir: Path, url: str | None, as_json: bool) -> None:
    """Show one round: what it was trained on, how its gate judged, why it ended so."""
    with connect(data_dir, url) as client:
        _print_round(client.round(round_id), as_json)


@round_group.command("cancel")
@click.argument("round_id", type=click.IntRange(1))
@server_options
@json_option
def cancel(round_id: int, data_dir: Path, url: str | None, as_json: bool) -> None:
    """Cancel an open round. The live policy stays as it is."""
    with connect(data_dir, url) as client:
        _print_round(client.cancel_round(round_id), as_json)


@click.command("readiness")
@server_options
@json_option
def readiness(data_dir: Path, url: str | None, as_json: bool) -> None:
    """Say whether there is enough feedback for a round, and what is missing."""
    with connect(data_dir, url) as client:
        report = client.readiness()
    if as_json:
        print_json(report)
        return
    out = to_stdout()
    out.print(
        ("[green]ready[/]: " if report.get("ready") else "[yellow]not yet[/]: ") + str(report.get("reason", "")),
        soft_wrap=True,
    )
    rows = [
        (
            group,
            item["name"],
            _number(item),
            f"{'≤ ' if item.get('at_most') else ''}{item['wanted']:.4g}",
            "yes" if item["met"] else "no",
        )
        for group, items in (report.get("requirements") or {}).items()
        for item in items
    ]
    print_table(["for", "what", "found", "wanted", "met"], rows, "The server gave no requirements.")
    for method, found in (report.get("methods") or {}).items():
        said = "; ".join(one["words"] for one in found["missing"])
        out.print(
            f"{method.upper():>6}  " + ("[green]may run[/]" if found["may_run"] else escaped(said)), soft_wrap=True
        )
    _print_agreement(report.get("agreement"))
    for doubt in report.get("wrong_tool") or ():
        out.print(f"[yellow]alignment is the wrong tool: {escaped(doubt['name'])}[/]: {escaped(doubt['found'])}.")
        out.print(f"  Instead: {escaped(doubt['advice'])}.", soft_wrap=True)
    if model := report.get("reward_model"):
        accuracy = "unknown" if model["accuracy"] is None else _number({"value": model["accuracy"], **model})
        out.print(
            f"last reward model: {'above' if model['passed'] else 'below'} its bar, accuracy {accuracy} of at most "
            f"{model['ceiling']:.3g} that raters' agreement allows",
            soft_wrap=True,
        )
    if report.get("ask"):
        out.print(
            f"{len(report['ask'])} comparisons would teach the reward model most: they are on the Annotate page, "
            "under “most uncertain pairs”.",
            soft_wrap=True,
        )


def _print_agreement(alpha: dict[str, Any] | None) -> None:
    if alpha is None:
        return
    if alpha["alpha"] is None:
        to_stdout().print("raters' agreement: not known; too few rated the same")
        return
    between = "" if alpha["low"] is None else f" [{alpha['low']:.2f}, {alpha['high']:.2f}]"
    to_stdout().print(
        f"raters' agreement: α {alpha['alpha']:.2f}{between} on {alpha['units']} things that several rated",
        markup=False,
        soft_wrap=True,
    )


def _number(item: dict[str, Any]) -> str:
    """A requirement's value, with its interval where it has one."""
    between = item.get("interval")
    return f"{item['value']:.4g}" + (f" [{between[0]:.3g}, {between[1]:.3g}]" if between else "")


def follow(client: "Thumbwise", found: "Round") -> "Round":
    """Show a round's progress until it has ended. Ctrl-C stops the watching, not the round."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=to_stderr(), transient=True) as progress:
            task = progress.add_task(f"round {found.round_id}: {found.state}", total=None)
            after, latest = -1, {}
            while not found.ended:
                time.sleep(POLL_S)
                for point in client.round_metrics(found.round_id, after):
                    after = max(after, point.step)
                    latest[point.name] = point.value
                found = client.round(found.round_id)
                shown = "  ".join(f"{name} {latest[name]:.3f}" for name in ("loss", "kl_nats") if name in latest)
                where = f" step {after}" if after >= 0 else ""
                progress.update(task, description=f"round {found.round_id}: {found.state}{where}  {shown}")
    except KeyboardInterrupt:
        raise Failure(
            f"no longer watching; round {found.round_id} goes on. Cancel it: thumbwise round cancel {found.round_id}"
        ) from None
    return found


def _print_round(found: "Round", as_json: bool) -> None:
    if as_json:
        print_json(_as_dict(found))
        return
    out = to_stdout()
    candidate = f" → version {found.candidate_version}" if found.candidate_version else ""
    out.print(f"[bold]round {found.round_id}[/] {found.state}, method {found.method or 'auto'}{candidate}")
    if found.reason and not found.gate_report:
        out.print(found.reason, markup=False, soft_wrap=True)
    counts = {name: value for name, value in found.selection.items() if isinstance(value, int | float) and value}
    if counts:
        said = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in counts.items())
        out.print(f"selection: {said}", soft_wrap=True)
    if found.gate_report:
        print_gate(found.gate_report)


def _first_clause(reason: str | None) -> str:
    """Enough of a reason for a line of a table; `round show` has the rest."""
    first = (reason or "").partition(";")[0]
    return first if len(first) <= 70 else first[:69] + "…"


def _as_dict(found: "Round") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)
