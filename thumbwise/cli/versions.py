"""`thumbwise version …`: what there is, what is live, what is tried beside it, and the way back."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from thumbwise.cli.connection import connect, json_option, server_options
from thumbwise.cli.gate_table import outcome_of, print_gate
from thumbwise.cli.say import FriendlyGroup, local_time, print_json, print_table, to_stdout

if TYPE_CHECKING:
    from thumbwise.client import Deployment


MARKS = {"live": "●", "canary": "◐"}


@click.group("version", cls=FriendlyGroup)
def version_group() -> None:
    """Look at the policy versions, put one live, take one back."""


@version_group.command("list")
@server_options
@json_option
def list_versions(data_dir: Path, url: str | None, as_json: bool) -> None:
    """List every policy version, the live one and the canary marked."""
    with connect(data_dir, url) as client:
        found = client.versions()
    if as_json:
        print_json([asdict(item) for item in found])
        return
    print_table(
        ["", "version", "state", "parent", "method", "round", "gate", "adapter", "made at"],
        [
            (MARKS.get(item.state, ""), item.version, item.state, item.parent, item.method, item.round_id,
             outcome_of(item.gate_report) if item.gate_report else "", (item.adapter_sha256 or "none")[:12],
             local_time(item.created_at))
            for item in found
        ],
        "No version yet.",
    )  # fmt: skip


@version_group.command("show")
@click.argument("version", type=click.IntRange(1))
@server_options
@json_option
def show(version: int, data_dir: Path, url: str | None, as_json: bool) -> None:
    """Show one policy version and its gate's report."""
    with connect(data_dir, url) as client:
        found = client.version(version)
    if as_json:
        print_json(asdict(found))
        return
    out = to_stdout()
    out.print(f"[bold]version {found.version}[/] {found.state}, parent {found.parent}, round {found.round_id}")
    out.print(f"adapter {found.adapter_sha256 or 'none: the base model'}")
    out.print(f"base model {found.base_model}")
    if found.gate_report:
        print_gate(found.gate_report)


@version_group.command("promote")
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", default="promoted by hand", show_default=True, help="Kept in the deployment log.")
@click.option("--force", is_flag=True, help="Promote a version that its gate rejected; the log says so.")
@click.option("--expected-live", type=click.IntRange(1), help="Refuse if another version is live by then.")
@server_options
@json_option
def promote(
    version: int, reason: str, force: bool, expected_live: int | None, data_dir: Path, url: str | None, as_json: bool
) -> None:
    """Make a version live. New replies are of it within a second; none under way is cut off."""
    with connect(data_dir, url) as client:
        _print_move(client.promote(version, reason, force=force, expected_live=expected_live), as_json)


@version_group.command("rollback")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Kept in the deployment log.")
@click.option("--expected-live", type=click.IntRange(1), help="Refuse if another version is live by then.")
@server_options
@json_option
def rollback(reason: str, expected_live: int | None, data_dir: Path, url: str | None, as_json: bool) -> None:
    """Bring back the version that was live before the present one."""
    with connect(data_dir, url) as client:
        _print_move(client.rollback(reason, expected_live=expected_live), as_json)


@version_group.command("canary")
@click.argument("version", type=click.IntRange(1))
@click.option(
    "--share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Part of the conversations that it answers; 0: seen in comparisons alone.",
)
@click.option("--reason", default="tried by hand", show_default=True, help="Kept in the deployment log.")
@click.option("--expected-live", type=click.IntRange(1), help="Refuse if another version is live by then.")
@server_options
@json_option
def canary(
    version: int, share: float, reason: str, expected_live: int | None, data_dir: Path, url: str | None, as_json: bool
) -> None:
    """Let a version answer a share of the conversations beside the live one, and meet it in comparisons.

    Each conversation stays on its side. Run it again for another share; a promote or rollback ends it.
    """
    with connect(data_dir, url) as client:
        _print_move(client.start_canary(version, share, reason, expected_live=expected_live), as_json)


@version_group.command("canary-stop")
@click.option("--reason", default="stopped by hand", show_default=True, help="Kept in the deployment log.")
@click.option("--expected-canary", type=click.IntRange(1), help="Refuse if another version is the canary by then.")
@server_options
@json_option
def canary_stop(reason: str, expected_canary: int | None, data_dir: Path, url: str | None, as_json: bool) -> None:
    """Let the live version answer everybody again."""
    with connect(data_dir, url) as client:
        _print_move(client.stop_canary(reason, expected_canary=expected_canary), as_json)


@version_group.command("canary-status")
@server_options
@json_option
def canary_status(data_dir: Path, url: str | None, as_json: bool) -> None:
    """Show how the canary stands: comparisons won, evidence of harm and of being better, what would be done."""
    with connect(data_dir, url) as client:
        found = client.canary()
    if as_json:
        print_json(found)
        return
    if found["canary"] is None:
        to_stdout().print("no version is a canary")
        return
    out = to_stdout()
    out.print(f"version {found['canary']} beside version {found['live']}: [bold]{found['action']}[/]")
    out.print(found["reason"])
    out.print(f"evidence of harm {found['e_harm']:.3g}, of being better {found['e_better']:.3g}; "
              f"wanted {found['e_needed']:g} of either")  # fmt: skip


@version_group.command("lineage")
@click.argument("version", type=click.IntRange(1))
@server_options
@json_option
def lineage(version: int, data_dir: Path, url: str | None, as_json: bool) -> None:
    """Show what a version was trained on, itself and through its parents, and what is wrong with that by now."""
    with connect(data_dir, url) as client:
        found = client.lineage(version)
    if as_json:
        print_json(found)
        return
    print_table(
        ["version", "round", "trained on", "erased since"],
        [(one["version"], one["round_id"] or "–", f"{len(one['feedback_ids'])} acts", one["erased"])
         for one in found["line"]],
        "",
    )  # fmt: skip
    for flag in found["flags"]:
        to_stdout().print(f"[yellow]version {version} was {flag}[/]")


@version_group.command("veto")
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; kept and shown.")
@click.option("--lift", is_flag=True, help="Take the veto back instead.")
@server_options
def veto(version: int, reason: str, lift: bool, data_dir: Path, url: str | None) -> None:
    """Forbid a version to go live or to be a canary, however green its gate."""
    with connect(data_dir, url) as client:
        if lift:
            client.lift_veto(version)
        else:
            client.veto(version, reason)
    to_stdout().print(f"version {version} may be promoted again" if lift else f"version {version} is vetoed")


def _print_move(move: "Deployment", as_json: bool) -> None:
    if as_json:
        print_json(asdict(move))
        return
    forced = " (forced past its gate)" if move.forced else ""
    match move.action:
        case "canary":
            said = f"version {move.version} answers {100 * (move.share or 0):g} % of the conversations"
            said += f" beside version {move.from_version}, and meets it in comparisons"
        case "canary_stop":
            said = f"version {move.version} is no canary any more; version {move.from_version} answers everybody"
        case _:
            said = f"version {move.version} is live{forced}; before it was version {move.from_version}"
    to_stdout().print(said)
