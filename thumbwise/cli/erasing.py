"""`thumbwise raters erase`: somebody wants to be forgotten, and tells it to whoever runs the bot."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from thumbwise.cli.connection import connect, json_option, server_options
from thumbwise.cli.say import Failure, print_json, to_stderr, to_stdout

if TYPE_CHECKING:
    from thumbwise.client import Thumbwise
    from thumbwise.client.calls import Channel
    from thumbwise.client.results import Erasure

CHANNELS = click.Choice(["web", "telegram", "discord", "api", "demo"])
MOST_WAITED_S = 60.0
LOOK_EVERY_S = 0.5


@click.command("erase")
@click.argument("name")
@click.option("--channel", type=CHANNELS, required=True, help="Where they chat.")
@click.option("--retire", is_flag=True, help="Keep every version that had learnt from them from serving.")
@click.option("--retrain", is_flag=True, help="The same, and ask for a round over all feedback that is left.")
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
@server_options
@json_option
def erase(
    name: str, channel: str, retire: bool, retrain: bool, yes: bool, data_dir: Path, url: str | None, as_json: bool
) -> None:
    """Erase NAME (an account's id on the platform): their acts, and the words of their replies.

    Waits until the database's own files hold nothing of it either, and says which versions had learnt from it.
    """
    if not yes:
        click.confirm(f"Erase what is kept of {name} on {channel}? This cannot be undone", abort=True, err=True)
    with connect(data_dir, url) as client:
        erased = client.erase_rater(name, cast("Channel", channel))
        found: dict[str, Any] = {
            "replies": erased.replies,
            "feedback": erased.feedback,
            "affected_versions": erased.affected_versions,
            "erasure_id": erased.erasure_id,
        }
        if erased.erasure_id is None:
            raise Failure(f"nothing is known of {name} on {channel}; nothing was erased. Is it the id of the account?")
        found["overwritten_at"] = _until_overwritten(client, erased.erasure_id)
        if retire or retrain:
            found |= client.retire_versions(erased.erasure_id, retrain=retrain)
    if as_json:
        print_json(found)
    else:
        _tell(erased, found)


def _until_overwritten(client: "Thumbwise", erasure_id: int) -> str | None:
    """Wait until the files hold nothing of it, for a minute at most; None: not yet."""
    until = time.monotonic() + MOST_WAITED_S
    with to_stderr().status("overwriting what was deleted …"):
        while (found := client.erasure(erasure_id)["overwritten_at"]) is None and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
    return None if found is None else str(found)


def _tell(erased: "Erasure", found: dict[str, Any]) -> None:
    out = to_stdout()
    out.print(f"erasure {erased.erasure_id}: {erased.feedback} acts deleted, {erased.replies} replies emptied")
    if found["overwritten_at"] is None:
        out.print("[yellow]the database's files are not overwritten yet[/]: the server goes on with it (see its log)")
    else:
        out.print("the database's files hold nothing of it any more")
    if erased.affected_versions:
        named = ", ".join(str(version) for version in erased.affected_versions)
        out.print(f"[yellow]trained on something of theirs:[/] version {named}")
    else:
        out.print("no version was trained on anything of theirs")
    if "retired" in found:
        out.print(f"these do not serve any more; version {found['live_version']} is live")
        if found["round_id"] is not None:
            out.print(f"round {found['round_id']} was asked for, without them")
        elif found["no_round"]:
            out.print(f"no round was asked for: {found['no_round']}")
    elif erased.affected_versions:
        out.print("they go on serving unless you run this with --retire, or --retrain; or veto them yourself")
    out.print("exports that were taken before: thumbwise feedback clean FILE. Backups are yours to let go of.")
