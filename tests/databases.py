"""The database that a run of the tests stands on: SQLite, or PostgreSQL with `--database postgres`.

`url_of(folder)` is the one way to the store of a folder: its file, or a database of its own on a throw-away server,
with the tables in it already (a copy of a template: some 30 ms). A test that is about SQLite itself says so with
`@pytest.mark.sqlite("why")` or asks for a fixture named sqlite_…, and is skipped on PostgreSQL; of one that runs on
both by itself, the half on PostgreSQL is left.
"""

import sqlite3
from collections import deque
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks._postgres import running_postgres
from feedback_store.store import Store

TEMPLATE = "template_of_the_tests"
LET_GO = 16
"""Databases of earlier tests that still stand: their connections are gone by the time they are dropped, so that
PostgreSQL need not wait for them."""


class Server:
    """A throw-away PostgreSQL, from its first use to the end of the run. Its databases are 300 files each, so those of
    a test are dropped behind it."""

    def __init__(self) -> None:
        self._parts = ExitStack()
        self._address = ""
        self._numbers = count(1)
        self._of_folders: dict[Path, str] = {}
        self._behind: deque[str] = deque()
        self._has_template = False

    @property
    def address(self) -> str:
        """What its URLs look like: `.format(database=NAME)`. Raises SystemExit without PostgreSQL's programs."""
        if not self._address:
            self._address = self._parts.enter_context(running_postgres())
        return self._address

    @property
    def files(self) -> list[Path]:
        """Where its databases, its write-ahead log and its own log lie; none where it was not used."""
        return [Path(self._address.rpartition("host=")[2])] if self._address else []

    def new(self, template: str = "template1") -> str:
        """Make a database and return its URL."""
        name = f"test_{next(self._numbers)}"
        self._say(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.address.format(database=name)

    def of_folder(self, folder: Path) -> str:
        """The URL of a folder's database, which is made with empty tables when it is first asked for."""
        if folder not in self._of_folders:
            if not self._has_template:
                self._say(f"CREATE DATABASE {TEMPLATE}")
                Store.open(self.address.format(database=TEMPLATE)).close()
                self._has_template = True
            self._of_folders[folder] = self.new(TEMPLATE)
        return self._of_folders[folder]

    def folders(self) -> set[Path]:
        """The folders that have a database."""
        return set(self._of_folders)

    def drop_but(self, kept: set[Path]) -> None:
        """Let the databases of other folders go."""
        for folder in self.folders() - kept:
            self._behind.append(self._of_folders.pop(folder).partition("?")[0].rpartition("/")[2])
        while len(self._behind) > LET_GO:
            self._say(f"DROP DATABASE {self._behind.popleft()} WITH (FORCE)")

    def close(self) -> None:
        """Stop it, if it runs."""
        self._parts.close()

    def _say(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.address.format(database="postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


SERVER = Server()


class Choice:
    """What the command line asked for."""

    postgres = False


def url_of(folder: Path) -> str:
    """The URL of the store of a folder, the same one for the same folder. With no tests around (pictures of the pages),
    its SQLite file."""
    if Choice.postgres:
        return SERVER.of_folder(folder)
    return f"sqlite:///{folder / 'thumbwise.db'}"


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, asked beside the program that has the store open."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True)) as found:
            return found.execute(query).fetchall()
    import psycopg

    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()
