"""One thread writes, many writes share a commit: group commit.

A durable commit costs a wait for the disk, a vote costs microseconds. So writes queue; the thread takes all that wait,
runs them in one transaction, commits once and only then acknowledges each. While it commits the next group gathers:
nobody waits for a timer, and a lone write is committed at once.

No savepoints on the way: they would double the statements. When a write of a group raises, the group is rolled back and
each of its writes is run again under a savepoint of its own, so that only the one at fault fails. A write may thus run
twice: it must change nothing but the database.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection, Engine, exc, text

from feedback_store.errors import Conflict, StoreError, StoreUnavailable
from feedback_store.outages import is_locked, outage_of

log = logging.getLogger(__name__)

MOST_REMEMBERED = 5_000
"""Ids of each kind that need not be looked up again."""
PROBE_EVERY_S = 1.0
"""While writes are refused and none comes, one of our own is tried this often, so that `refusing` tells the present."""


class Write:
    """A write that waits for its commit. Awaited on `future`, or waited for on `done` by a thread."""

    __slots__ = ("alone", "args", "deadline", "done", "error", "fn", "future", "kwargs", "loop", "result")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], deadline: float) -> None:
        self.fn, self.args, self.kwargs, self.deadline = fn, args, kwargs, deadline
        self.result: Any = None
        self.error: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: asyncio.Future[Any] | None = None
        self.done: threading.Lock | None = None
        """Held until the write has ended."""
        self.alone = False
        """Run between two groups, with the engine and no transaction."""

    def is_abandoned(self) -> bool:
        """Whether its time is over and nobody waits any more. A database that is away must not gather such without end;
        whoever gave up was told that it is not confirmed."""
        return self.future is not None and self.future.cancelled() and time.monotonic() > self.deadline

    def run(self, connection: Connection) -> None:
        self.error = None
        self.result = self.fn(connection, *self.args, **self.kwargs)


class Writer:
    """The writing thread of a store. `submit` from any thread."""

    def __init__(self, engine: Engine, *, group_max: int, busy_timeout_s: float) -> None:
        self._engine = engine
        self._group_max = group_max
        self._busy_timeout_s = busy_timeout_s
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self.refusing = False
        """Whether the latest write failed for the database's sake. True: locked, full or away."""
        self.commits = 0
        self._next: Write | None = None
        """Taken from the queue, and to be begun with."""
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def write(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run `fn(connection, …)` and return its result after the commit. Blocks."""
        return self._wait_for(Write(fn, args, kwargs, time.monotonic() + self._busy_timeout_s))

    def between_writes(self, fn: Callable[[Engine], Any]) -> Any:
        """Run `fn(engine)` on the writing thread between two groups, outside any transaction: for what SQLite does only
        there. Blocks; writes wait meanwhile."""
        write = Write(fn, (), {}, time.monotonic() + self._busy_timeout_s)
        write.alone = True
        return self._wait_for(write)

    def _wait_for(self, write: Write) -> Any:
        if threading.current_thread() is self._thread:
            raise RuntimeError("a write was asked for inside a write; wanted: call the query with the same connection")
        write.done = threading.Lock()
        write.done.acquire()
        self._submit(write)
        write.done.acquire()
        if write.error is not None:
            raise write.error
        return write.result

    async def write_async(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same, awaitable. A caller that stops waiting does not undo its write."""
        write = Write(fn, args, kwargs, time.monotonic() + self._busy_timeout_s)
        write.loop = asyncio.get_running_loop()
        write.future = write.loop.create_future()
        self._submit(write)
        return await write.future

    def close(self) -> None:
        """Commit what waits, then end the thread. Later writes are refused."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _submit(self, write: Write) -> None:
        with self._gate:
            if self._closed:
                raise StoreUnavailable("the store is closed: nothing was stored")
            self._queue.put(write)

    def _work(self) -> None:
        group: list[Write] = []
        open_ = True
        while open_ or group:
            if not group:
                try:
                    first = self._next or self._queue.get(timeout=PROBE_EVERY_S if self.refusing else None)
                except Empty:
                    self._commit([Write(_probe, (), {}, time.monotonic())])
                    continue
                self._next = None
                if first is None:
                    return
                if first.alone:
                    self._run_between(first)
                    continue
                if first.is_abandoned():
                    continue
                group.append(first)
            open_ = self._gather(group) and open_
            group = self._commit(group)

    def _gather(self, group: list[Write]) -> bool:
        """Add the writes that wait to the group. False: the store is closing, there will be no more."""
        with suppress(Empty):
            while len(group) < self._group_max and self._next is None:
                write = self._queue.get_nowait()
                if write is None:
                    return False
                if write.alone:
                    self._next = write
                    break
                if not write.is_abandoned():
                    group.append(write)
        return True

    def _run_between(self, write: Write) -> None:
        try:
            write.result = write.fn(self._engine)
        except BaseException as error:  # whoever waits must hear of it
            write.error = error
        _acknowledge([write])

    def _commit(self, group: list[Write]) -> list[Write]:
        """Commit a group and acknowledge it. Returns the writes that go on waiting for a locked database."""
        try:
            with self._engine.connect() as connection:
                try:
                    self._run_group(connection, group)
                except BaseException:
                    _roll_back(connection)
                    raise
        except BaseException as error:  # whatever it is, no caller may wait for ever
            waiting: list[Write] = []
            if is_locked(error):
                present = time.monotonic()
                waiting = [write for write in group if write.deadline > present]
                group = [write for write in group if write.deadline <= present]
            for write in group:
                write.error = outage_of(error) or StoreError(f"the store failed ({type(error).__name__})")
                write.error.__cause__ = error
            if group and not self.refusing:  # once: a full disk must not be filled with complaints about it
                self.refusing = True
                log.warning("writes are refused cause=%s", type(error.__cause__ or error).__name__)
            _acknowledge(group)
            return waiting
        self.commits += 1
        if self.refusing:
            self.refusing = False
            log.warning("writes are stored again")
        _acknowledge(group)
        return []

    def _run_group(self, connection: Connection, group: list[Write]) -> None:
        transaction = connection.begin()
        try:
            for write in group:
                write.run(connection)
        except Exception as error:
            _roll_back(connection)
            if outage_of(error) is not None:
                raise
            # A row that refused for what this connection remembered deserves a second look, even alone.
            if len(group) == 1 and not isinstance(error, exc.IntegrityError):
                group[0].error = _as_store_error(error)
                return
        else:
            transaction.commit()
            return
        with connection.begin():
            for write in group:
                self._run_alone(connection, write)

    def _run_alone(self, connection: Connection, write: Write) -> None:
        savepoint = connection.begin_nested()
        try:
            write.run(connection)
        except Exception as error:
            if outage_of(error) is not None:
                raise
            savepoint.rollback()
            forget(connection)
            write.error = _as_store_error(error)
        else:
            savepoint.commit()


def _probe(connection: Connection) -> None:
    """Write what stands there already: reading would not show that a disk is full."""
    if connection.dialect.name == "sqlite":  # a bot's own file too, which has no tables of the store
        present = connection.execute(text("PRAGMA user_version")).scalar_one()
        connection.exec_driver_sql(f"PRAGMA user_version={present:d}")
    else:
        connection.execute(text("UPDATE alembic_version SET version_num = version_num"))


def remembered(connection: Connection, kind: str) -> dict[Any, Any]:
    """What this connection has seen in the database and need not ask again: `kind` → key → value.

    Forgotten at every rollback, so that it never holds what was not committed; foreign keys guard against the rest.
    """
    known: dict[Any, Any] = connection.info.setdefault(kind, {})
    if len(known) > MOST_REMEMBERED:  # the older half goes: people vote on what they have just read
        recent = dict(islice(known.items(), len(known) // 2, None))
        known.clear()
        known.update(recent)
    return known


def forget(connection: Connection) -> None:
    """Drop what `remembered` holds."""
    if connection.invalidated:
        return  # it is gone with its connection; asking would connect anew, in the middle of a lost transaction
    for known in connection.info.values():
        if isinstance(known, dict):
            known.clear()


def _roll_back(connection: Connection) -> None:
    forget(connection)
    with suppress(exc.DBAPIError):  # the database may have rolled back by itself, or be gone
        connection.rollback()
    if connection.dialect.name == "sqlite":
        # After a COMMIT that failed sqlalchemy takes the transaction for ended, but SQLite still has it open: without
        # this every later write would fail.
        driver = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection) and driver.in_transaction:
            driver.rollback()


def _as_store_error(error: Exception) -> Exception:
    """What a write raised, in words that callers without sqlalchemy can catch."""
    if isinstance(error, exc.IntegrityError):
        found: Exception = Conflict(f"the database refused the row ({type(error.orig).__name__}): nothing was stored")
    elif isinstance(error, exc.SQLAlchemyError):
        found = StoreError(f"the database refused the statement ({type(error).__name__}): nothing was stored")
    else:
        return error
    found.__cause__ = error
    return found


def _acknowledge(group: list[Write]) -> None:
    # One wake-up per event loop and group: a wake-up is a system call.
    loops: dict[asyncio.AbstractEventLoop, list[Write]] = {}
    for write in group:
        if write.loop is not None:
            loops.setdefault(write.loop, []).append(write)
        elif write.done is not None:
            write.done.release()
    for loop, writes in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, writes)


def _resolve(writes: list[Write]) -> None:
    for write in writes:
        future = write.future
        if future is None or future.done():
            continue
        if write.error is not None:
            future.set_exception(write.error)
        else:
            future.set_result(write.result)
