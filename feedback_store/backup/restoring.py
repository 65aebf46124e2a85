"""The way back: everything is checked before anything is touched, and then it is all there or nothing is.

1. Every member is read and compared with its SHA-256; the target is looked at.
2. Sealed adapters and reward models are put where they belong, each by one rename. They are named by their content and
   nothing points to them yet.
3. The other files wait in `DATA/.restoring`, with a plan.
4. One transaction of the database makes the tables as they were then, puts the rows in, counts them, upgrades the
   schema, and notes the restore's id in the log of acts. Its commit is the moment of the restore.
5. The files are moved to their places.

After a crash before the commit the store is as it was, and the next start throws the waiting files away; after it the
next start finds the id in the log and moves them (`finish_restore`).
"""

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, exc, inspect, select

from feedback_store.audit import Act, record
from feedback_store.backup.archive import Archive, BackupRefused, sync
from feedback_store.backup.tables import Columns, columns_of, drop_tables, put_lines, set_next_numbers
from feedback_store.databases import connect_databases, lock
from feedback_store.errors import Conflict, StoreError
from feedback_store.inbox import rebuild
from feedback_store.inbox_news import make_words_and_triggers
from feedback_store.looking import connections_of_ours
from feedback_store.migrations import known_revisions, migrate, present_revision, upgrade_to
from feedback_store.outages import outage_of
from feedback_store.schema import REVISION, audit, metadata, now
from feedback_store.store import Store

WAITING = ".restoring"
PLAN = "plan.json"
ACTION = "store.restore"
WAIT_S = 30.0
SEALED = ("adapters/", "rewards/")
RATER_KEY = "keys/rater.key"
# What a store that was only ever started has: the base model's version, the pointer to it, the note of that.
_OF_A_START = {"policy_versions": 1, "live_pointer": 1, "deployments": 1}


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done."""

    restore_id: str
    rows: dict[str, int]
    placed: tuple[str, ...]
    """Files that were put into the data folder, as named there."""
    kept: tuple[str, ...]
    """Files of the target that stayed although the backup has others of that name."""


def restore(
    archive: Archive, url: str, data_dir: Path, places: Mapping[str, Path], *, replace: bool = False
) -> Restored:
    """Put a backup into the store at `url` and the files of `data_dir`; see the module's docstring.

    places: where each member beside rows and sealed folders goes; one that is not named is left out. A file that is
    there is kept, with `replace` it is moved aside. Raises BackupRefused, Conflict where the target has something and
    `replace` is not given or where it is in use, StoreError, StoreUnavailable.
    """
    revision = _check(archive)
    databases = connect_databases(url, WAIT_S)
    try:
        with databases.writer.connect() as connection:
            with connection.begin():
                _settle(connection, data_dir)
                _check_target(connection, replace)
            going = _going(archive, places, replace)
            restore_id = uuid.uuid4().hex
            _put_sealed(archive, data_dir)
            _stage(archive, data_dir, going, restore_id)
            with connection.begin():
                _check_target(connection, replace)
                rows = _put_rows(connection, archive, revision)
                details = {"restore_id": restore_id, "backup_of": archive.manifest["made_at"]}
                record(connection, Act("command", ACTION, details=details))
            with connection.begin():
                _settle(connection, data_dir)
            if replace and connection.dialect.name == "sqlite":
                _forget_free_pages(connection)
    except exc.SQLAlchemyError as error:
        raise outage_of(error) or StoreError(f"the database refused ({type(error).__name__})") from error
    finally:
        databases.close()
    kept = tuple(path.name for name, path in places.items() if name not in going)
    return Restored(restore_id, rows, tuple(path.name for path in going.values()), kept)


def finish_restore(store: Store, data_dir: Path) -> bool:
    """Finish what a restore that was cut short began, or throw it away; True: its files are in their places now."""
    if not (data_dir / WAITING).is_dir():
        return False
    return store.write(_settle, data_dir)


def _check(archive: Archive) -> str:
    """Return the schema's revision. Raises BackupRefused before anything was touched."""
    revision = str(archive.manifest["schema_revision"])
    if revision != REVISION and revision not in known_revisions():
        raise BackupRefused(
            f"the backup is of schema revision {revision!r}, this program knows up to {REVISION!r}; restore it with "
            "the version of thumbwise that made it, or a newer one"
        )
    unknown = [one["table"] for one in archive.manifest["tables"] if one["table"] not in metadata.tables]
    if unknown:
        raise BackupRefused(f"the backup has tables that no store has: {', '.join(map(repr, unknown[:5]))}")
    archive.verify()
    return revision


def _check_target(connection: Connection, replace: bool) -> None:
    if others := connections_of_ours(connection):
        raise Conflict(
            f"{others} connections of Thumbwise are open in the database; stop every server, trainer and doctor that "
            "uses it before a restore"
        )
    if replace or present_revision(connection) is None:
        return
    counted = {}
    for one in columns_of(connection):
        table = one.as_table()
        most = _OF_A_START.get(one.table, 0)
        if len(connection.execute(select(*list(table.c)[:1]).limit(most + 1)).all()) > most:
            counted[one.table] = most
    if counted:
        raise Conflict(
            f"the store is not empty (it has {', '.join(sorted(counted)[:4])}); wanted: an empty one, or --replace, "
            "which deletes everything in it"
        )


def _going(archive: Archive, places: Mapping[str, Path], replace: bool) -> dict[str, Path]:
    """The files that go to their places: those that the target lacks, and with `replace` those that differ there."""
    going = {}
    for name, path in places.items():
        if path.exists():
            here, there = path.read_bytes(), archive.read(name)
            if here == there or (name == RATER_KEY and set(there.splitlines()) <= set(here.splitlines())):
                continue  # the target's own rater keys may be more: it was rotated since
            if name == RATER_KEY and not replace:
                raise Conflict(
                    f"{path} is another key than the backup's, with which its raters are known; wanted: a data folder "
                    "of its own for the restored store, or --replace, which puts the present key aside"
                )
            if not replace:
                continue
            if name.endswith(".db"):
                os.close(lock(path))  # raises Conflict while a bot has it open
        going[name] = path
    return going


def _put_sealed(archive: Archive, data_dir: Path) -> None:
    """Put each sealed folder under its hash; one that is there already is the same."""
    folders = {name.rpartition("/")[0] for name in archive.members if name.startswith(SEALED)}
    for folder in sorted(folders):
        target = data_dir / folder
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = target.with_name(f".restoring-{target.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        for name in archive.members:
            if name.startswith(folder + "/"):
                archive.extract(name, scratch / name.rpartition("/")[2])
        sync(scratch)
        scratch.rename(target)
        sync(target.parent)


def _stage(archive: Archive, data_dir: Path, going: Mapping[str, Path], restore_id: str) -> None:
    """Write the files that go into places of their own, and then the plan: without it the folder is worth nothing."""
    waiting = data_dir / WAITING
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    waiting.mkdir(mode=0o700)
    moves = {}
    for number, (name, path) in enumerate(going.items()):
        archive.extract(name, waiting / str(number))
        moves[str(number)] = str(path.absolute())
    plan = waiting / f"{PLAN}.new"
    plan.write_text(json.dumps({"restore_id": restore_id, "moves": moves}), encoding="utf-8")
    plan.chmod(0o600)
    plan.rename(waiting / PLAN)
    sync(waiting)
    sync(data_dir)


def _put_rows(connection: Connection, archive: Archive, revision: str) -> dict[str, int]:
    drop_tables(connection)
    upgrade_to(connection, revision)
    counted = {}
    for one in archive.manifest["tables"]:
        columns = Columns(one["table"], dict(one["kinds"]))
        try:
            counted[columns.table] = put_lines(connection, columns, archive.lines(f"tables/{columns.table}.jsonl"))
        except (KeyError, TypeError, ValueError) as error:
            raise BackupRefused(
                f"a row of {columns.table} in the backup cannot be read ({type(error).__name__})"
            ) from error
        if counted[columns.table] != one["rows"]:
            raise BackupRefused(
                f"the backup has {counted[columns.table]} rows of {columns.table}, wanted {one['rows']}"
            )
    set_next_numbers(connection, dict(archive.manifest["next_numbers"]))
    migrate(connection)
    make_words_and_triggers(connection)
    rebuild(connection)
    return counted


def _settle(connection: Connection, data_dir: Path) -> bool:
    """Move the waiting files if the store says that their restore was committed, and remove the folder in any case."""
    waiting = data_dir / WAITING
    if not waiting.is_dir():
        return False
    try:
        plan: dict[str, Any] = json.loads((waiting / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        plan = {}  # cut short before the plan was whole: nothing was committed
    done = bool(plan) and _was_committed(connection, plan["restore_id"])
    if done:
        for name, place in plan["moves"].items():
            _move(waiting / name, Path(place))
    shutil.rmtree(waiting)
    sync(data_dir)
    return done


def _was_committed(connection: Connection, restore_id: str) -> bool:
    if not inspect(connection).has_table("audit"):
        return False
    query = select(audit.c.details).where(audit.c.action == ACTION)
    return any(details.get("restore_id") == restore_id for details in connection.execute(query).scalars())


def _move(source: Path, target: Path) -> None:
    """Put a file into its place; what was there stays beside it. Repeating it after a crash does nothing more."""
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if target.exists():
        target.rename(target.with_name(f"{target.name}.before-{now():%Y%m%d-%H%M%S}"))
    source.rename(target)
    sync(target.parent)


def _forget_free_pages(connection: Connection) -> None:
    """What was replaced must not stay readable in the file."""
    driver: Any = connection.connection.driver_connection  # sqlalchemy would begin a transaction, and VACUUM has none
    for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
        driver.execute(statement).close()
