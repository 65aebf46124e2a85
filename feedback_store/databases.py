"""How the store connects: one writing connection, a pool of reading ones, on SQLite or PostgreSQL.

SQLite: write-ahead log and synchronous=FULL, so that a commit is on the disk before it is acknowledged; readers open
the file read-only and never checkpoint, so that a page of the dashboard cannot slow a vote. Only one process may
write a SQLite file: a lock file beside it says who. PostgreSQL: as many processes as you like.
"""

import fcntl
import json
import math
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from feedback_store.errors import Conflict, NotFound, StoreError

if TYPE_CHECKING:
    from feedback_store.answers_in_time import AnswerLimit

READERS = 16
"""Most reading connections at once."""
WRITER_CACHE_KIB, READER_CACHE_KIB = 4_000, 500
"""Pages that one SQLite connection keeps for itself. The system keeps the same pages for all of them; with more here a
server grew for ten minutes, until every connection's share was full (docs/log.md)."""
LOCK_STEP_MS = 50
"""How long SQLite itself waits for a lock; the writer tries again until a write's own time is over."""


@dataclass(slots=True)
class Databases:
    """The two engines of a store, and the lock file that is held while it is open (SQLite only)."""

    writer: Engine
    readers: Engine
    lock_file: int | None
    answers: "AnswerLimit | None" = None
    """How long PostgreSQL may take for an answer; SQLite has no other side that could fall silent."""
    upkeep: Engine | None = None
    """PostgreSQL: for what takes its time and wants no transaction, such as VACUUM. A connection each time."""

    def limit_answers(self, seconds: float) -> None:
        """From now on wait no longer than that for any answer."""
        if self.answers is not None:
            self.answers.seconds = seconds

    def close(self) -> None:
        """Close every connection, the writer's last: it then folds the log into the file. Free the lock."""
        self.readers.dispose()
        self.writer.dispose()
        if self.lock_file is not None:
            os.close(self.lock_file)
            self.lock_file = None


def connect_databases(url: str, busy_timeout_s: float) -> Databases:
    """Return the engines for `url`; nothing is connected yet, but a SQLite file is locked for this process.

    Raises StoreError for a URL of another database, Conflict when another process writes the file.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(_path_of(parsed), busy_timeout_s)
    return _postgresql(parsed, busy_timeout_s)


def connect_reader(url: str, busy_timeout_s: float) -> Engine:
    """Return an engine that only reads, beside whatever program writes: nothing is locked, made or upgraded.

    Raises StoreError for a URL of another database, NotFound for a SQLite file that is not there.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "postgresql":
        databases = _postgresql(parsed, busy_timeout_s)
        databases.writer.dispose()
        return databases.readers
    path = _path_of(parsed)
    if not path.is_file():
        raise NotFound(f"there is no database {path}; wanted: the data folder, or the store.url, of what runs")
    return _sqlite_readers(path, busy_timeout_s)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        # The URL may hold a password: it is not repeated.
        raise StoreError(
            "store.url is not a database URL; wanted sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise StoreError(
            f"store.url names the database {backend!r}; wanted sqlite:///PATH or postgresql://USER@HOST/NAME"
        )
    return parsed


def _path_of(url: URL) -> Path:
    if url.database in (None, "", ":memory:") or str(url.database).startswith("file:"):
        raise StoreError("store.url names no file; wanted sqlite:///PATH: readers are connections of their own")
    return Path(str(url.database)).absolute()


def _sqlite(path: Path, busy_timeout_s: float) -> Databases:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_file = lock(path)
    # What people said is nobody else's to read; SQLite gives its log files the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    timeout_ms = int(busy_timeout_s * 1000)

    def writing() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
        for pragma in (
            f"busy_timeout={timeout_ms}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "secure_delete=ON",  # what is deleted is overwritten with zeros, and does not stand in free pages
            f"cache_size=-{WRITER_CACHE_KIB}",
            f"busy_timeout={LOCK_STEP_MS}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    # hide_parameters: what people wrote must not reach a log through an exception's text.
    writer = create_engine(
        "sqlite://", creator=writing, poolclass=StaticPool, hide_parameters=True, json_serializer=to_json
    )
    readers = _sqlite_readers(path, busy_timeout_s)
    # The driver would begin a transaction only at the first change, and then as a reader that may be refused later.
    event.listen(writer, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return Databases(writer, readers, lock_file)


def _sqlite_readers(path: Path, busy_timeout_s: float) -> Engine:
    timeout_ms = int(busy_timeout_s * 1000)

    def reading() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        for pragma in (
            f"busy_timeout={timeout_ms}",
            "wal_autocheckpoint=0",
            "query_only=ON",
            "temp_store=MEMORY",
            f"cache_size=-{READER_CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    readers = create_engine(
        "sqlite://",
        creator=reading,
        poolclass=QueuePool,
        pool_size=READERS // 2,
        max_overflow=READERS // 2,
        pool_use_lifo=True,  # few of them work, and hold pages, where few are needed
        pool_timeout=busy_timeout_s,
        hide_parameters=True,
    )
    event.listen(readers, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return readers


def _postgresql(url: URL, busy_timeout_s: float) -> Databases:
    from feedback_store.answers_in_time import AnswerLimit, limit_answers  # psycopg: not at a start over SQLite

    # psycopg reads a bare postgresql:// too, but SQLAlchemy would take it for psycopg2.
    url = url.set(drivername="postgresql+psycopg")
    timeout_ms = int(busy_timeout_s * 1000)
    given = dict(url.query)
    arguments: dict[str, Any] = {
        "connect_timeout": max(1, round(busy_timeout_s)),
        "options": f"-c lock_timeout={timeout_ms} -c timezone=UTC",
        "application_name": "thumbwise",
        "tcp_user_timeout": max(1000, timeout_ms),
        # A peer that died while we wait for its answer: without these the kernel would look after two hours.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
    }
    arguments = {name: value for name, value in arguments.items() if name not in given}
    writer = create_engine(
        url,
        connect_args=arguments,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        json_serializer=to_json,
    )
    readers = create_engine(
        url,
        connect_args=arguments,
        pool_size=READERS // 2,
        max_overflow=READERS // 2,
        pool_timeout=busy_timeout_s,
        pool_pre_ping=True,
        hide_parameters=True,
        # One statement sees one moment; a reading of several statements does too.
        isolation_level="REPEATABLE READ",
    )
    event.listen(readers, "begin", lambda connection: connection.exec_driver_sql("SET TRANSACTION READ ONLY"))
    answers = AnswerLimit()
    for engine in (writer, readers):
        limit_answers(engine, answers)
    upkeep = create_engine(
        url, connect_args=arguments, poolclass=NullPool, hide_parameters=True, isolation_level="AUTOCOMMIT"
    )
    return Databases(writer, readers, None, answers, upkeep)


def to_json(value: Any) -> str:
    """The text of a JSON column. A number that is not finite has no JSON and becomes null: it is not known."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def lock(database: Path) -> int:
    """Take the lock file of a SQLite file for this process, and return its open descriptor.

    The lock is the operating system's: it ends with the process, however that ends. Raises Conflict when it is taken.
    """
    path = database.with_name(database.name + ".lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise Conflict(
            f"the database {database} is already written by process {holder}; wanted: one process per SQLite file. "
            "Stop that one, speak to it over HTTP, or move the store to PostgreSQL"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
