"""A look at the database from outside, for `thumbwise doctor` and `migrate`: nothing is locked, migrated or written."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Connection, exc, text

from feedback_store.databases import connect_databases, connect_reader
from feedback_store.errors import NotFound, StoreUnavailable
from feedback_store.migrations import present_revision
from feedback_store.outages import outage_of
from feedback_store.schema import REVISION

T = TypeVar("T")

OLDEST_SQLITE = (3, 51, 3)
"""Before it, two connections that write or checkpoint at once can damage a write-ahead log as it is reset. A store has
one writing connection and readers that never checkpoint, so that it does not meet this; other programs may."""
OLDEST_POSTGRESQL = 14
"""The oldest one that is tried; it gets no fixes after 2026-11."""
LOOK_S = 3.0


@dataclass(frozen=True, slots=True)
class PostgresLook:
    """What a server says of itself."""

    version: str
    major: int
    ahead_s: float
    """Its clock less ours, at the middle of the question."""
    flushes: bool
    """fsync and synchronous_commit are on: a commit is on its disk before it is confirmed."""
    is_superuser: bool
    encrypted: bool
    """The way to it is TLS, or a socket of this machine."""


def sqlite_version() -> tuple[int, ...]:
    """The library that this Python brings."""
    return sqlite3.sqlite_version_info


def look_at_postgres(url: str) -> PostgresLook:
    """Ask a PostgreSQL about itself. Raises StoreError for another URL, StoreUnavailable when it does not answer."""
    databases = connect_databases(url, LOOK_S)
    databases.limit_answers(LOOK_S)
    try:
        with databases.readers.connect() as connection, connection.begin():
            return _look(connection)
    except exc.SQLAlchemyError as error:
        raise outage_of(error) or StoreUnavailable(f"the database refused ({type(error).__name__})") from error
    finally:
        databases.close()


@dataclass(frozen=True, slots=True)
class SchemaLook:
    """How a store's tables stand to this program."""

    present: str | None
    """None: there are no tables of ours yet."""
    wanted: str
    connections: int
    """Of Thumbwise's programs to a PostgreSQL, this one left out; on SQLite 0, for its lock file says more."""

    @property
    def is_older(self) -> bool:
        """Whether an upgrade is due."""
        return self.present is not None and self.present < self.wanted


def look_at_schema(url: str) -> SchemaLook:
    """Say which revision a store is at. Raises StoreError for another URL, StoreUnavailable when it does not answer."""
    try:
        present, connections = read_beside(
            url, lambda connection: (present_revision(connection), connections_of_ours(connection))
        )
    except NotFound:
        present, connections = None, 0
    return SchemaLook(present, REVISION, connections)


def read_beside(url: str, fn: Callable[[Connection], T]) -> T:
    """Return `fn(connection)` of one moment of the store, beside whatever program writes it.

    Raises StoreError for another URL, NotFound for a SQLite file that is not there, StoreUnavailable when the database
    does not answer.
    """
    engine = connect_reader(url, LOOK_S)
    try:
        with engine.connect() as connection, connection.begin():
            return fn(connection)
    except exc.SQLAlchemyError as error:
        raise outage_of(error) or StoreUnavailable(f"the database refused ({type(error).__name__})") from error
    finally:
        engine.dispose()


def connections_of_ours(connection: Connection) -> int:
    """Count the other connections of Thumbwise's programs to this PostgreSQL."""
    if connection.dialect.name != "postgresql":
        return 0
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'thumbwise' AND pid <> pg_backend_pid()"
    )
    return int(connection.execute(query).scalar_one())


def _look(connection: Connection) -> PostgresLook:
    before = datetime.now(UTC)
    present = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    after = datetime.now(UTC)
    found = connection.execute(
        text(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, "
            "current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off', "
            "current_setting('is_superuser') = 'on', "
            "inet_client_addr() IS NULL OR coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)"
        )
    ).one()
    ahead_s = (present - (before + (after - before) / 2)).total_seconds()
    return PostgresLook(found[0], int(found[1]), ahead_s, bool(found[2]), bool(found[3]), bool(found[4]))
