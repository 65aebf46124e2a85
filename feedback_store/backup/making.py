"""Writing a backup while the product runs: the rows of one moment first, then the files that they name.

Sealed adapters are on the disk before their rows are, and never change: what a row of that moment names is there.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, exc, select

from feedback_store.backup.archive import ArchiveWriter, FileToKeep, writing
from feedback_store.backup.tables import columns_of, lines_of, next_numbers
from feedback_store.databases import connect_reader
from feedback_store.errors import StoreError
from feedback_store.migrations import known_revisions, present_revision
from feedback_store.outages import outage_of
from feedback_store.schema import REVISION, live_pointer, now, policy_versions, rounds

WAIT_S = 30.0
"""How long a database that is locked or does not answer is waited for."""


@dataclass(frozen=True, slots=True)
class SavedVersion:
    """A policy version in the backup."""

    version: int
    state: str
    adapter_sha256: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the rows of that moment name."""

    revision: str
    live_version: int | None
    versions: tuple[SavedVersion, ...]
    rewards: tuple[str, ...]
    """SHA-256 of the reward models that rounds have left."""


def make_backup(
    url: str,
    target: Path,
    files_of: Callable[[Snapshot], Iterable[FileToKeep]],
    more: dict[str, Any],
) -> dict[str, Any]:
    """Write the backup `target` of the store at `url`, beside whatever program writes it; return its manifest.

    files_of: the files to keep, asked for when the rows are written; `more` goes into the manifest as it is. Raises
    StoreError where there is no store, or one of a newer program, and StoreUnavailable when it does not answer.
    """
    engine = connect_reader(url, WAIT_S)
    try:
        with writing(target) as archive:
            with engine.connect() as connection, connection.begin():
                snapshot, manifest = _rows(connection, archive)
            for one in files_of(snapshot):
                _add_file(archive, one)
            manifest |= more
            archive.finish(manifest)
            return {**manifest, "members": archive.members}
    except exc.SQLAlchemyError as error:
        raise outage_of(error) or StoreError(f"the database refused to read ({type(error).__name__})") from error
    finally:
        engine.dispose()


def _rows(connection: Connection, archive: ArchiveWriter) -> tuple[Snapshot, dict[str, Any]]:
    revision = present_revision(connection)
    if revision is None:
        raise StoreError("the database has no tables of ours; wanted: the store of what runs")
    if revision != REVISION and revision not in known_revisions():
        raise StoreError(
            f"the database is at schema revision {revision!r}, this program knows up to {REVISION!r} and would leave "
            "out what is newer; back up with the version of thumbwise that wrote it"
        )
    made_at = now()
    tables = []
    for columns in columns_of(connection):
        count = archive.add_lines(f"tables/{columns.table}.jsonl", lines_of(connection, columns))
        tables.append({"table": columns.table, "kinds": columns.kinds, "rows": count})
    snapshot = _snapshot(connection, revision)
    return snapshot, {
        "made_at": made_at.isoformat(timespec="seconds"),
        "backend": connection.dialect.name,
        "schema_revision": revision,
        "live_version": snapshot.live_version,
        "versions": [asdict(one) for one in snapshot.versions],
        "rewards": list(snapshot.rewards),
        "tables": tables,
        "next_numbers": next_numbers(connection),
    }


def _snapshot(connection: Connection, revision: str) -> Snapshot:
    """Columns that every revision has."""
    columns = policy_versions.c
    query = select(columns.version, columns.state, columns.adapter_sha256).order_by(columns.version)
    versions = tuple(SavedVersion(*row) for row in connection.execute(query))
    live = connection.execute(select(live_pointer.c.version)).scalar_one_or_none()
    selections = connection.execute(select(rounds.c.selection)).scalars()
    reports = [(selection or {}).get("reward_model") for selection in selections]
    named = {str(report["sha256"]) for report in reports if isinstance(report, dict) and report.get("sha256")}
    return Snapshot(revision, live, versions, tuple(sorted(named)))


def _add_file(archive: ArchiveWriter, one: FileToKeep) -> None:
    """A bot's SQLite file is copied as its bot would see it: page by page it could be caught in the middle."""
    if one.path.suffix != ".db":
        archive.add_file(one)
        return
    with tempfile.TemporaryDirectory(prefix="thumbwise-backup-") as folder:
        copy = Path(folder) / "copy.db"
        source = sqlite3.connect(f"file:{one.path}?mode=ro", uri=True, timeout=WAIT_S)
        into = sqlite3.connect(copy)
        try:
            source.backup(into)
        finally:
            into.close()
            source.close()
        archive.add_file(FileToKeep(one.name, copy, one.secret))
