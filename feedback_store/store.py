"""The store: transactions over one database, alike on SQLite and PostgreSQL.

The queries are plain functions whose first argument is a connection (`feedback.add_feedback`, `rounds.claim_round` …).
`Store.write(fn, …)` runs one on the writing thread and returns after the commit; `Store.read(fn, …)` runs one on a
reading connection, which sees one moment of the database and can change nothing.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, exc

from feedback_store.databases import Databases, connect_databases
from feedback_store.errors import StoreError, StoreUnavailable, Unconfirmed
from feedback_store.migrations import migrate, refuse_older
from feedback_store.outages import outage_of
from feedback_store.overwriting import overwrite_deleted
from feedback_store.settings import StoreSettings
from feedback_store.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 2
"""How many times busy_timeout_s a person's write is waited for: once behind the group before it, once for its own."""
LONGEST_ANSWER = 6
"""How many times busy_timeout_s one statement may take on PostgreSQL before its connection counts as dead."""


class Store:
    """An open store. Thread-safe; `close` it, or use it in a with statement."""

    def __init__(self, databases: Databases, settings: StoreSettings) -> None:
        self._databases = databases
        self._closed = False
        self.patience_s = PATIENCE * settings.busy_timeout_s
        """How long somebody who waits for an answer is kept waiting at most."""
        self._writer = Writer(
            databases.writer, group_max=settings.group_commit_max, busy_timeout_s=settings.busy_timeout_s
        )
        self._readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="store-reader")

    @classmethod
    def open(cls, url: str, *, settings: StoreSettings = StoreSettings()) -> "Store":
        """Connect to `url`, create or upgrade its tables, and start the writing thread.

        url: `sqlite:///PATH` (the folder is made when missing) or `postgresql://…`. Raises StoreError for another one,
        and where an upgrade is due that is left to somebody's hand, Conflict when another process writes the SQLite
        file, StoreUnavailable when the database does not answer.
        """
        databases = connect_databases(url, settings.busy_timeout_s)
        try:
            with databases.writer.begin() as connection:
                if settings.upgrade == "by_hand":
                    refuse_older(connection)
                migrate(connection)
        except exc.SQLAlchemyError as error:
            databases.close()
            raise outage_of(error) or StoreError(f"store.url cannot be opened: {error}") from error
        except BaseException:
            databases.close()
            raise
        databases.limit_answers(LONGEST_ANSWER * settings.busy_timeout_s)
        return cls(databases, settings)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit what waits and close every connection."""
        self._closed = True
        self._writer.close()
        self._readers.shutdown()
        self._databases.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def backend(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._databases.writer.dialect.name

    @property
    def refuses_writes(self) -> bool:
        """Whether the database is locked, full or away as far as the latest write could tell; it is tried again every
        second."""
        return self._writer.refusing

    @property
    def commits(self) -> int:
        """Commits of writes since the store was opened; fewer than writes, for writes that wait together share one."""
        return self._writer.commits

    def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(connection, …)` on the writing thread, and return its result when it is committed.

        What fn raises undoes fn's work alone and is raised here. fn may run twice (see writer.py) and must not block.
        Raises StoreUnavailable when the database stays locked for busy_timeout_s, is full or away.
        """
        result: T = self._writer.write(fn, args, kwargs)
        return result

    async def write_async(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write`, awaitable on any event loop. A caller that stops waiting within busy_timeout_s does not undo it."""
        result: T = await self._writer.write_async(fn, args, kwargs)
        return result

    async def write_in_time(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write_async` for a short write whose caller has somebody waiting: for twice busy_timeout_s at most.

        Raises Unconfirmed after that: the write may still be committed later, so it is repeated under its own key.
        """
        try:
            async with asyncio.timeout(self.patience_s):
                return await self.write_async(fn, *args, **kwargs)
        except TimeoutError as error:
            raise Unconfirmed(f"the database did not confirm within {self.patience_s:g} s; try again") from error

    def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(connection, …)` on a reading connection in this thread. fn must not return a lazy iterator over it
        (see `reading`)."""
        with self.reading() as connection:
            return fn(connection, *args, **kwargs)

    async def read_async(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` in a worker thread, awaitable."""
        loop = asyncio.get_running_loop()
        try:
            reading = loop.run_in_executor(self._readers, lambda: self.read(fn, *args, **kwargs))
        except RuntimeError as error:  # the threads are gone
            raise StoreUnavailable("the store is closed") from error
        return await reading

    def overwrite_deleted(self, rewrite_bytes: int) -> bool:
        """Overwrite what was deleted in the database's files (see overwriting.py); False: not all could be. Blocks.

        Raises StoreUnavailable while the database is locked, full or away.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            return overwrite_deleted(self._databases, self._writer, rewrite_bytes)
        except (exc.SQLAlchemyError, sqlite3.Error) as error:
            raise StoreUnavailable(f"the database cannot be overwritten now ({type(error).__name__})") from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A reading connection for as long as the block lasts: for long, lazily read results such as an export."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            with self._databases.readers.connect() as connection, connection.begin():
                yield connection
        except exc.SQLAlchemyError as error:
            raise outage_of(error) or StoreError(f"the database refused to read ({type(error).__name__})") from error
