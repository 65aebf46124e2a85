"""`thumbwise backup` and `thumbwise restore`: everything that must not be lost as one file, and the way back.

Also the way from SQLite to PostgreSQL and back: the backup of one restores into the other.
"""

import contextlib
import re
import time
import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thumbwise.cli.checking import config_option
from thumbwise.cli.connection import TOKEN_FILE, data_option, json_option
from thumbwise.cli.data_folder import RATER_KEY_FILE
from thumbwise.cli.say import Failure, print_json, to_stderr, to_stdout

if TYPE_CHECKING:
    from feedback_store.backup import Archive, FileToKeep, Snapshot
    from thumbwise.config import Settings

FOLDER = "backups"
ENDING = ".backup"
_OUR_NAME = re.compile(r"thumbwise-\d{8}-\d{6}\.backup")
_RATER_KEY, _ADMIN_TOKEN, _SETTINGS = f"keys/{RATER_KEY_FILE}", f"keys/{TOKEN_FILE}", "thumbwise.toml"
_FILES_OF = {
    "adapters": ("adapter_model.safetensors", "adapter_config.json", "manifest.json"),
    "rewards": ("adapter_model.safetensors", "head.safetensors", "adapter_config.json", "manifest.json"),
}


@click.command("backup")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help=f"A folder, or a new file that ends in {ENDING}. Without it: DATA/{FOLDER}.",
)
@click.option("--keep", type=click.IntRange(1), help="Then delete all but the newest of the files named by the time.")
@click.option("--without-keys", is_flag=True, help="Leave out the rater key and the admin token: you keep them apart.")
@click.option("--without-adapters", is_flag=True, help="Leave out weights: you copy DATA/adapters and DATA/rewards.")
@data_option
@config_option
@json_option
def backup(
    out: Path | None,
    keep: int | None,
    without_keys: bool,
    without_adapters: bool,
    data_dir: Path,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Write everything that must not be lost into one file, while the server runs.

    In it: every row of the store as of one moment, the adapters and reward models that they name, the rater key, the
    admin token, the bots' files, thumbwise.toml. Not in it: models, logs, unfinished rounds, sign-ins, and secrets from
    the environment. What people said and, but for --without-keys, secrets are in it: the file is its owner's alone.
    """
    from feedback_store.backup import make_backup
    from thumbwise.config import load_settings

    settings = load_settings(data_dir.absolute(), config_file)
    target = _target(out, settings.data_dir)
    started = time.monotonic()
    missing: list[str] = []

    def files_of(snapshot: "Snapshot") -> Iterator["FileToKeep"]:
        if not without_adapters:
            yield from _sealed(snapshot, settings.data_dir, missing)
        yield from _others(settings, with_keys=not without_keys)

    more = {"rater_keys": _key_marks(settings), "settings": _set_ones(settings), "missing": missing}
    with _disk_errors_said(target):
        manifest = make_backup(settings.store_url, target, files_of, more)
    deleted = _delete_older(target, keep) if keep is not None else []
    if as_json:
        print_json({"file": str(target), **_told(manifest), "deleted": [str(path) for path in deleted]})
        return
    said = to_stdout()
    size = f"{target.stat().st_size / 2**20:.1f} MiB, {time.monotonic() - started:.1f} s"
    said.print(f"{target}  ({size})", soft_wrap=True, markup=False)
    _print_told(manifest)
    for path in deleted:
        said.print(f"deleted {path}", soft_wrap=True, markup=False)


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Only verify the file and say what is in it.")
@click.option("--replace", is_flag=True, help="Delete what the store holds, and put aside files that differ.")
@data_option
@config_option
@json_option
def restore(file: Path, check: bool, replace: bool, data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """Put the backup FILE into the store that the settings name, SQLite or PostgreSQL, and into the data folder.

    Stop everything that uses either first. Nothing is touched before every byte of FILE is verified, and a crash leaves
    the old state or the new one. Restore only what you made: who signs in, and who may what, comes from the file.
    """
    from feedback_store.backup import Archive
    from feedback_store.backup import restore as put_back
    from thumbwise.config import load_settings

    with Archive(file) as archive:
        if check:
            archive.verify()
            _show(archive.manifest, as_json)
            return
        settings = load_settings(data_dir.absolute(), config_file)
        _check_key(archive, settings)
        places = _places(archive, settings)
        with _disk_errors_said(settings.data_dir):
            done = put_back(archive, settings.store_url, settings.data_dir, places, replace=replace)
        if as_json:
            print_json({"rows": done.rows, "placed": done.placed, "kept": done.kept, **_told(archive.manifest)})
            return
        _show(archive.manifest, as_json)
    said = to_stdout()
    said.print(f"restored: {sum(done.rows.values())} rows, files {', '.join(done.placed) or 'none'}")
    if done.kept:
        said.print(f"kept as they were here: {', '.join(done.kept)}")
    said.print("People sign in again. What was erased or revoked after the backup is back: do it again. "
               "Then: thumbwise doctor, thumbwise up.")  # fmt: skip


@contextlib.contextmanager
def _disk_errors_said(place: Path) -> Iterator[None]:
    from feedback_store.errors import StoreError

    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise Failure(f"{error.filename or place}: {error.strerror}; nothing was changed") from error


def _target(out: Path | None, data_dir: Path) -> Path:
    if out is not None and out.suffix == ENDING and not out.is_dir():
        if not out.parent.is_dir():
            raise Failure(f"the folder {out.parent} is not there; make it, or give another --out")
        if out.exists():
            raise Failure(f"{out} is there already; give a new name, or a folder")
        return out
    folder = out or data_dir / FOLDER
    if out is None and not data_dir.is_dir():
        raise Failure(f"there is no data folder {data_dir}; name it with --data")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"thumbwise-{datetime.now().astimezone():%Y%m%d-%H%M%S}{ENDING}"


def _sealed(snapshot: "Snapshot", data_dir: Path, missing: list[str]) -> Iterator["FileToKeep"]:
    """The folders that the rows name. One that is gone and that nobody is served by is noted as missing."""
    from feedback_store.backup import FileToKeep

    wanted = {f"adapters/{one.adapter_sha256}": one for one in snapshot.versions if one.adapter_sha256}
    for folder in sorted([*wanted, *(f"rewards/{sha256}" for sha256 in snapshot.rewards)]):
        names = _FILES_OF[folder.partition("/")[0]]
        if all((data_dir / folder / name).is_file() for name in names):
            yield from (FileToKeep(f"{folder}/{name}", data_dir / folder / name) for name in names)
            continue
        one = wanted.get(folder)
        if one is not None and one.state in ("live", "canary"):
            raise Failure(
                f"version {one.version} is {one.state}, and its adapter {folder} is not in {data_dir}; run this where "
                "the adapters are, or give --without-adapters and keep a copy of them yourself"
            )
        missing.append(folder)


def _others(settings: "Settings", *, with_keys: bool) -> Iterator["FileToKeep"]:
    from feedback_store.backup import FileToKeep

    data_dir = settings.data_dir
    if with_keys:
        for name, path in ((_RATER_KEY, data_dir / RATER_KEY_FILE), (_ADMIN_TOKEN, data_dir / TOKEN_FILE)):
            if path.is_file():
                yield FileToKeep(name, path, secret=True)
        if (buttons := data_dir / "bots" / "buttons.key").is_file():
            yield FileToKeep("bots/buttons.key", buttons, secret=True)
    for path in sorted((data_dir / "bots").glob("*.db")):
        yield FileToKeep(f"bots/{path.name}", path)
    if settings.config_file is not None:
        yield FileToKeep(_SETTINGS, settings.config_file)


def _places(archive: "Archive", settings: "Settings") -> dict[str, Path]:
    """Where the files go. Keys that come from the environment here stay there; settings that are here stay in force."""
    places = {}
    for name in archive.members:
        if name.startswith("bots/"):
            places[name] = settings.data_dir / name
    if _RATER_KEY in archive.members and settings.rater_key is None:
        places[_RATER_KEY] = settings.data_dir / RATER_KEY_FILE
    if _ADMIN_TOKEN in archive.members and settings.admin_token is None:
        places[_ADMIN_TOKEN] = settings.data_dir / TOKEN_FILE
    if _SETTINGS in archive.members:
        # Settings that are in force here stay so, and those of then must not lead the next start to another store.
        own = settings.config_file is None and "url" not in tomllib.loads(archive.read(_SETTINGS).decode()).get(
            "store", {}
        )
        places[_SETTINGS] = settings.data_dir / (_SETTINGS if own else f"{_SETTINGS}.restored")
    return places


def _check_key(archive: "Archive", settings: "Settings") -> None:
    """Refuse a key under which the restored raters would all be strangers."""
    if set(archive.manifest["rater_keys"]) <= set(_key_marks(settings)):
        return
    if settings.rater_key is not None:
        raise Failure(
            "THUMBWISE_RATER_KEY is another key than the backup's, with which its raters are known; give that one "
            "(below a newer one, each on a line), or unset it and let the backup bring its own"
        )
    if _RATER_KEY not in archive.members:
        to_stderr().print(
            f"[yellow]The backup has no rater key:[/] put the one of then into {settings.data_dir / RATER_KEY_FILE} "
            "(or THUMBWISE_RATER_KEY) before you start anything, or every rater is a stranger."
        )


def _key_marks(settings: "Settings") -> list[str]:
    """What tells the rater keys from others and is no way to them, the newest first; empty where there is none yet."""
    from feedback_store.raters import key_mark
    from thumbwise.cli.data_folder import rater_keys

    if settings.rater_key is None and not (settings.data_dir / RATER_KEY_FILE).is_file():
        return []
    return [key_mark(key) for key in rater_keys(settings)]


def _set_ones(settings: "Settings") -> dict[str, Any]:
    """The settings that are no defaults, for whoever sets the product up again; none that may hold a password."""
    from thumbwise.config import MAY_HOLD_A_PASSWORD

    names = sorted(name for name in settings.origins if name not in MAY_HOLD_A_PASSWORD)
    values = {}
    for name in names:
        section, _, key = name.rpartition(".")
        values[name] = settings.section(section).model_dump(mode="json")[key]
    return values


def _delete_older(target: Path, keep: int) -> list[Path]:
    """Delete all but the newest files of this command's own naming beside `target`, and return them."""
    ours = sorted(path for path in target.parent.iterdir() if _OUR_NAME.fullmatch(path.name))
    old = ours[:-keep]
    for path in old:
        path.unlink()
    return old


def _told(manifest: dict[str, Any]) -> dict[str, Any]:
    members = manifest["members"]
    folders = {name.rpartition("/")[0] for name in members if name.startswith(("adapters/", "rewards/"))}
    return {
        "made_at": manifest["made_at"],
        "backend": manifest["backend"],
        "schema_revision": manifest["schema_revision"],
        "live_version": manifest["live_version"],
        "rows_of": {one["table"]: one["rows"] for one in manifest["tables"] if one["rows"]},
        "adapters": sum(folder.startswith("adapters/") for folder in folders),
        "reward_models": sum(folder.startswith("rewards/") for folder in folders),
        "files": sorted(name for name in members if not name.startswith(("tables/", "adapters/", "rewards/"))),
        "secret": sorted(name for name, one in members.items() if one.get("secret")),
        "missing": manifest["missing"],
    }


def _show(manifest: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(_told(manifest))
    else:
        _print_told(manifest)


def _print_told(manifest: dict[str, Any]) -> None:
    told, said = _told(manifest), to_stdout()
    counted = {name: told["rows_of"].get(name, 0) for name in ("replies", "feedback", "raters", "rounds")}
    rows = ", ".join(f"{count} {name}" for name, count in counted.items())
    said.print(f"of {told['made_at']}, {told['backend']} at revision {told['schema_revision']}: {rows}", soft_wrap=True)
    said.print(f"live version {told['live_version'] or 'none'}; {told['adapters']} adapters, {told['reward_models']} "
               f"reward models; {', '.join(told['files']) or 'no other files'}", soft_wrap=True)  # fmt: skip
    if told["secret"]:
        said.print(f"[yellow]secret:[/] {', '.join(told['secret'])}, and what people said. Keep it like the original.",
                   soft_wrap=True)  # fmt: skip
    for folder in told["missing"]:
        said.print(f"[yellow]missing here, so not in it:[/] {folder} (of no version that serves)", soft_wrap=True)
