"""After an erasure: see to it that the database's own files no longer hold what was deleted.

To delete a row is to forget where it stands. What it said stays in free pages, in old versions of the row and in the
log of changes until something is written over it, and whoever reads the disk reads it.

**SQLite.** The writing connection overwrites what it deletes with zeros (`secure_delete`). Three places are left: the
index of words, which only notes that a row is gone until its segments are merged; pages that were divided, or freed by
an older program; and the write-ahead log. So the index is merged in small steps, the file is rewritten (VACUUM) unless
it is large, and the log is folded in and cut to nothing.

**PostgreSQL.** Deleted and changed rows stay as dead ones, and a plain VACUUM makes room without wiping it. So tables
are written anew (VACUUM FULL: a table is locked while it is copied), unless they are large. A transaction that began
before the erasure still sees the old rows and keeps them alive: it is waited for. What went into the server's own
write-ahead log stays there until its segments are used again or removed, which is the server's business: a checkpoint
is asked for where the role may. docs/operations.md says what that means for archives and replicas.
"""

import logging
import sqlite3
import time
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine, exc, text

from feedback_store.databases import Databases
from feedback_store.writer import Writer

log = logging.getLogger(__name__)

PATIENCE_S = 20.0
"""How long readers that hold on to an old moment of the database are waited for at once; then it is tried again."""
LOOK_EVERY_S = 0.1
WORD_PAGES = 200
"""Pages of the index of words that one write merges: a vote behind it waits some milliseconds."""
_LOCK = 7_410_553
"""Any number: on PostgreSQL one program at a time rewrites tables."""
_WITH_WORDS = (
    "annotation_labels", "annotation_tasks", "audit", "comparisons", "conversations", "feedback", "feedback_reviews",
    "inbox", "inbox_news", "inbox_raters", "inbox_words", "policy_versions", "quarantines", "raters", "replies",
    "reply_reviews", "review_acts", "round_selection", "rounds",
)  # fmt: skip
"""Tables that an erasure changes."""


def overwrite_deleted(databases: Databases, writer: Writer, rewrite_bytes: int) -> bool:
    """Overwrite what was deleted; False when somebody still reads an old moment: try again later. Blocks.

    rewrite_bytes: a file (SQLite) or table (PostgreSQL) up to this size is written anew. Raises the driver's errors.
    """
    if databases.upkeep is not None:
        return _postgresql(databases.upkeep, rewrite_bytes)
    _merge_words(writer)
    writer.between_writes(lambda engine: _rewrite(engine, rewrite_bytes))
    until = time.monotonic() + PATIENCE_S
    while not writer.between_writes(_cut_log):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _merge_words(writer: Writer) -> None:
    pages = -WORD_PAGES  # the first time: all segments into one, with which deleted words go
    while writer.write(_merge_step, (pages,), {}):
        pages = WORD_PAGES
        time.sleep(LOOK_EVERY_S / 10)  # votes first


def _merge_step(connection: Connection, pages: int) -> bool:
    """One step; False when there is nothing left to merge, which FTS5 tells by changing fewer than two rows."""
    driver: Any = connection.connection.driver_connection
    before = driver.total_changes
    connection.execute(text("INSERT INTO inbox_words (inbox_words, rank) VALUES ('merge', :pages)"), {"pages": pages})
    return bool(driver.total_changes - before >= 2)


def _rewrite(engine: Engine, rewrite_bytes: int) -> None:
    driver = _sqlite_driver(engine)
    (pages,), (size,) = (driver.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    if pages * size <= rewrite_bytes:
        driver.execute("VACUUM")
    else:
        log.info("database not rewritten size_bytes=%d limit_bytes=%d", pages * size, rewrite_bytes)


def _cut_log(engine: Engine) -> bool:
    (busy, _, _) = _sqlite_driver(engine).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return bool(busy == 0)


def _sqlite_driver(engine: Engine) -> sqlite3.Connection:
    """The writer's one connection, outside any transaction."""
    proxy = engine.raw_connection()
    driver = proxy.driver_connection
    proxy.close()  # goes back to a pool of one, which keeps it
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _postgresql(engine: Engine, rewrite_bytes: int) -> bool:
    with engine.connect() as connection:
        if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}).scalar():
            return False  # another program is at it
        if not _older_ones_end(connection):
            return False
        sizes = connection.execute(
            text(
                "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND relname = ANY(:names)"
            ),
            {"names": list(_WITH_WORDS)},
        ).all()
        for name, size in sizes:
            how = "FULL, ANALYZE" if size <= rewrite_bytes else "ANALYZE"
            connection.execute(text(f'VACUUM ({how}) "{name}"'))
        with suppress(exc.ProgrammingError):  # only some roles may; the server makes one by itself before long
            connection.execute(text("CHECKPOINT"))
    return True


def _older_ones_end(connection: Connection) -> bool:
    """Wait for the transactions that see the database as it was: what they see cannot be removed."""
    query = text(
        "SELECT pid, xact_start FROM pg_stat_activity WHERE backend_xmin IS NOT NULL"
        " AND pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'"
    )
    older = set(connection.execute(query).all())
    until = time.monotonic() + PATIENCE_S
    while older & set(connection.execute(query).all()):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_EVERY_S)
    return True
