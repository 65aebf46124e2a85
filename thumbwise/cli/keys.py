"""`thumbwise keys list|rotate|drop`: the secrets of this installation, and new ones in their place.

The rater key and the buttons' key are rings: the newest makes, older ones still know. API keys are the dashboard's.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from thumbwise.cli.checking import config_option
from thumbwise.cli.connection import TOKEN_FILE, data_option, json_option
from thumbwise.cli.data_folder import RATER_KEY_FILE, new_token
from thumbwise.cli.say import Failure, FriendlyGroup, print_json, print_table, to_stdout

if TYPE_CHECKING:
    from thumbwise.config import Settings

BUTTONS_FILE = Path("bots", "buttons.key")
DEFAULT_GRACE_DAYS = 30


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of ours. `variable`: from where it comes when it is no file here."""

    name: str
    what: str
    file: Path | None
    variable: str | None


SECRETS = (
    Secret("rater", "makes raters' ids", Path(RATER_KEY_FILE), "RATER_KEY"),
    Secret("admin", "the admin's token; sign-ins with GitHub and Discord under way", Path(TOKEN_FILE), "ADMIN_TOKEN"),
    Secret("buttons", "signs the buttons of our bots", BUTTONS_FILE, None),
    Secret("sign-ins", "people's sessions on the dashboard: random, kept as hashes in the store", None, None),
)
NAMES = click.Choice([one.name for one in SECRETS])
RINGS = click.Choice(["rater", "buttons"])


@click.group("keys", cls=FriendlyGroup)
def keys() -> None:
    """Look at the secrets of this installation, and change them."""


@keys.command("list")
@data_option
@config_option
@json_option
def list_secrets(data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """List the secrets: where each is, since when, and which former keys are still known. None is shown."""
    settings = _settings(data_dir, config_file)
    rows = [_described(one, settings) for one in SECRETS]
    if as_json:
        print_json(rows)
        return
    columns = ("name", "what", "where", "since", "former keys")
    print_table(columns, [[row[name] for name in columns] for row in rows], "")


@keys.command("rotate")
@click.argument("name", type=NAMES)
@click.option(
    "--grace-days",
    type=click.IntRange(0, 3650),
    default=DEFAULT_GRACE_DAYS,
    show_default=True,
    help="How long buttons of the former key still work; 0: not at all.",
)
@data_option
@config_option
def rotate(name: str, grace_days: int, data_dir: Path, config_file: Path | None) -> None:
    """Make a new secret in place of the present one; restart what uses it.

    rater: raters keep their votes, since whoever is seen again is taken over to the new key; the former one stays known
    until `thumbwise keys drop rater`. admin: the former token ends with the restart. buttons: older buttons work for
    --grace-days. sign-ins: everybody signs in again.
    """
    said = _ROTATIONS[name](_settings(data_dir, config_file), grace_days)
    to_stdout().print(said, soft_wrap=True, markup=False)


@keys.command("drop")
@click.argument("name", type=RINGS)
@data_option
@config_option
def drop(name: str, data_dir: Path, config_file: Path | None) -> None:
    """Forget the former keys. rater: who was not seen since is a stranger when they come back, and nobody can find out
    any more who their votes are from. buttons: older buttons stop working."""
    from feedback_store.key_ring import drop_former, read_ring

    settings = _settings(data_dir, config_file)
    secret = next(one for one in SECRETS if one.name == name)
    path = _own_file(secret, settings)
    if not path.exists():
        raise Failure(f"{path} is not there: nothing was made with it yet")
    count = len(read_ring(path).former)
    drop_former(path)
    to_stdout().print(f"{count} former keys are forgotten, once {_users_of(name)} restarted.", soft_wrap=True)


def _rotate_rater(settings: "Settings", grace_days: int) -> str:
    from feedback_store.key_ring import rotate as rotate_ring

    path = _own_file(SECRETS[0], settings)
    _needs_a_store_folder(settings)
    ring = rotate_ring(path, None)
    return (
        f"{path} has a new rater key; {len(ring.former)} former keys are known. Restart every server; where several "
        "share a store, give all of them the same file. Raters are taken over as they are seen. Make a backup now: "
        "older ones have the former key alone. When enough time has passed: thumbwise keys drop rater"
    )


def _rotate_admin(settings: "Settings", grace_days: int) -> str:
    path = _own_file(SECRETS[1], settings)
    _needs_a_store_folder(settings)
    new_token(settings.data_dir)
    return (
        f"{path} has a new admin token. Restart the server, and the bots and scripts that use it; until then the "
        "server takes the former one."
    )


def _rotate_buttons(settings: "Settings", grace_days: int) -> str:
    from feedback_store.key_ring import rotate as rotate_ring

    until = datetime.now(UTC) + timedelta(days=grace_days)
    _needs_a_store_folder(settings)
    rotate_ring(settings.data_dir / BUTTONS_FILE, until)
    return (
        f"{settings.data_dir / BUTTONS_FILE} has a new key. Restart the bots; buttons of before work until "
        f"{until:%Y-%m-%d %H:%M} UTC."
    )


def _end_sign_ins(settings: "Settings", grace_days: int) -> str:
    from feedback_store.access.sessions import end_all_sessions
    from thumbwise.cli.compose import open_store

    with open_store(settings) as store:
        count = store.write(end_all_sessions, "command")
    return f"{count} sign-ins are ended: everybody signs in again."


_ROTATIONS: dict[str, Callable[["Settings", int], str]] = {
    "rater": _rotate_rater,
    "admin": _rotate_admin,
    "buttons": _rotate_buttons,
    "sign-ins": _end_sign_ins,
}


def _users_of(name: str) -> str:
    return "every server is" if name == "rater" else "the bots are"


def _settings(data_dir: Path, config_file: Path | None) -> "Settings":
    from thumbwise.config import load_settings

    return load_settings(data_dir.absolute(), config_file)


def _needs_a_store_folder(settings: "Settings") -> None:
    if not settings.data_dir.is_dir():
        raise Failure(f"there is no data folder {settings.data_dir}; name it with --data")


def _from_environment(secret: Secret) -> str | None:
    names = (f"THUMBWISE_{secret.variable}", f"THUMBWISE_{secret.variable}_FILE") if secret.variable else ()
    return next((name for name in names if os.environ.get(name)), None)


def _own_file(secret: Secret, settings: "Settings") -> Path:
    """The secret's file in DATA. Raises Failure where it comes from the environment, which is not ours to change."""
    if (variable := _from_environment(secret)) is not None:
        do = "put the new key on a line above the former one" if secret.name == "rater" else "put a new one there"
        raise Failure(f"the {secret.name} secret comes from {variable}: {do}, and restart what uses it")
    assert secret.file is not None
    return settings.data_dir / secret.file


def _described(secret: Secret, settings: "Settings") -> dict[str, str]:
    from feedback_store.key_ring import read_ring

    found = {"name": secret.name, "what": secret.what, "where": "the store", "since": "", "former keys": ""}
    if (variable := _from_environment(secret)) is not None:
        former = str(len(settings.former_rater_keys) or "") if secret.name == "rater" else ""
        return found | {"where": variable, "former keys": former}
    if secret.file is None:
        return found
    path = settings.data_dir / secret.file
    if not path.is_file():
        return found | {"where": f"{path} (made at the first start)"}
    since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    found |= {"where": str(path), "since": f"{since:%Y-%m-%d}"}
    if secret.name in RINGS.choices:
        ends = [f"until {one.until:%Y-%m-%d}" if one.until else "until dropped" for one in read_ring(path).former]
        found["former keys"] = ", ".join(ends)
    return found
