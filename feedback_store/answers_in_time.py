"""A PostgreSQL that took a question and never answers must not hold whoever asked for ever.

The kernel ends a connection whose peer is gone (tcp_user_timeout, keepalives). It cannot see a peer that still
acknowledges bytes and does nothing with them: a paused pooler, a proxy whose other side is dead, a stuck disk. So every
wait for an answer has an end here. The connection is closed then, since the answer to the old question might still
come; whether that question was carried out is unknown.

A migration may take long, so the limit is set when the tables stand.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Engine, event

R = TypeVar("R")


class AnswerLimit:
    """How long one answer may take; None: as long as it likes. Shared by all connections of a store."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: float | None = None


class PunctualConnection(psycopg.Connection[Any]):
    """A connection that closes itself when an answer takes longer than `limit` allows."""

    limit = AnswerLimit()

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait like psycopg does, but not for ever. Raises psycopg.OperationalError."""
        seconds = self.limit.seconds
        return super().wait(gen if seconds is None else self._ended_after(gen, seconds), *args, **kwargs)

    def _ended_after(self, gen: Generator[Any, Any, R], seconds: float) -> Generator[Any, Any, R]:
        """`gen`, until it was woken without any news (psycopg does that ten times a second) and its time is over."""
        end = time.monotonic() + seconds
        ready: Any = None
        while True:
            try:
                wanted = gen.send(ready)
            except StopIteration as done:
                found: R = done.value
                return found
            ready = yield wanted
            if not ready and time.monotonic() > end:
                gen.close()
                self.close()
                raise psycopg.OperationalError(f"no answer within {seconds:g} s: the connection was closed")


def limit_answers(engine: Engine, limit: AnswerLimit) -> None:
    """Make every connection that `engine` opens from now on keep to `limit`."""

    class Limited(PunctualConnection):
        pass

    Limited.limit = limit

    def connect(dialect: Any, record: Any, arguments: Any, named: Any) -> psycopg.Connection[Any]:
        return Limited.connect(*arguments, **named)

    event.listen(engine, "do_connect", connect)
