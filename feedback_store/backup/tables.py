"""Rows of our tables as JSON that either database takes, of any revision of the schema.

The columns are those that the database has, not those of `schema.py`, so that a store can be backed up before it is
upgraded and restored by a newer program. A value has one of six kinds; a time is UTC in ISO 8601, a number that is not
finite a word.
"""

import json
import math
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, Table, inspect, select, text

from feedback_store.review_schema import inbox, inbox_news, inbox_raters
from feedback_store.schema import Json, UtcTime, metadata, sessions

Kind = Literal["text", "integer", "float", "boolean", "time", "json"]
_TYPES: dict[Kind, Any] = {
    "text": sa.Text(),
    "integer": sa.BigInteger(),
    "float": sa.Float(),
    "boolean": sa.Boolean(),
    "time": UtcTime(),
    "json": Json,
}
# The first that fits: a boolean of SQLite is no integer.
_KINDS: tuple[tuple[type[Any], Kind], ...] = (
    (sa.JSON, "json"),
    (sa.Boolean, "boolean"),
    (sa.DateTime, "time"),
    (sa.Integer, "integer"),
    (sa.Float, "float"),
    (sa.String, "text"),
)
LEFT_OUT = frozenset({inbox.name, inbox_raters.name, inbox_news.name, sessions.name})
"""The inbox is computed from the rest. A sign-in that ended since must not come back with an old copy: people sign in
again."""
ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Columns:
    """A table to carry over: its name and its columns, each with its kind."""

    table: str
    kinds: dict[str, Kind]

    def as_table(self) -> Table:
        """The table with the columns that it has here, whatever `schema.py` says today."""
        return Table(self.table, sa.MetaData(), *(sa.Column(name, _TYPES[kind]) for name, kind in self.kinds.items()))


def columns_of(connection: Connection, left_out: Container[str] = LEFT_OUT) -> list[Columns]:
    """Return our tables that are there, each behind those that it refers to."""
    looked = inspect(connection)
    present = set(looked.get_table_names())
    wanted = [one.name for one in metadata.sorted_tables if one.name in present and one.name not in left_out]
    return [
        Columns(name, {column["name"]: _kind_of(column["type"]) for column in looked.get_columns(name)})
        for name in wanted
    ]


def _kind_of(found: Any) -> Kind:
    for one, kind in _KINDS:
        if isinstance(found, one):
            return kind
    raise TypeError(f"a column of the store has the type {found!r}, which no backup carries; add it to _KINDS")


def lines_of(connection: Connection, columns: Columns) -> Iterator[str]:
    """Yield each row as a line of JSON, its values in the order of the columns and the rows in that of their keys: a
    row that refers to another one of its table stands behind it."""
    table = columns.as_table()
    keys = inspect(connection).get_pk_constraint(columns.table)["constrained_columns"]
    query = select(table).order_by(*(table.c[key] for key in keys)).execution_options(yield_per=ROWS_AT_ONCE)
    ways = [_WRITTEN.get(kind, _as_it_is) for kind in columns.kinds.values()]
    for row in connection.execute(query):
        values = [None if value is None else way(value) for way, value in zip(ways, row, strict=True)]
        yield json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def put_lines(connection: Connection, columns: Columns, lines: Iterable[str]) -> int:
    """Insert the rows of these lines and return how many there were."""
    statement = columns.as_table().insert()
    names = list(columns.kinds)
    ways = [_READ.get(kind, _as_it_is) for kind in columns.kinds.values()]
    remaining = iter(lines)
    count = 0
    while group := [json.loads(line) for line in islice(remaining, ROWS_AT_ONCE)]:
        rows = [
            {
                name: None if value is None else way(value)
                for name, way, value in zip(names, ways, values, strict=True)
            }
            for values in group
        ]  # fmt: skip
        connection.execute(statement, rows)
        count += len(rows)
    return count


def _as_it_is(value: Any) -> Any:
    return value


def _float_written(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


_WRITTEN: dict[Kind, Callable[[Any], Any]] = {"time": datetime.isoformat, "float": _float_written}
_READ: dict[Kind, Callable[[Any], Any]] = {"time": datetime.fromisoformat, "float": float}


def next_numbers(connection: Connection) -> dict[str, int]:
    """Return the highest number that was ever given out in each table that counts its rows, deleted ones included: an
    erased act's number must name no other act."""
    if connection.dialect.name == "sqlite":
        if not inspect(connection).has_table("sqlite_sequence"):
            return {}
        found = connection.execute(text("SELECT name, seq FROM sqlite_sequence"))
        return {row.name: row.seq for row in found if row.name in metadata.tables and row.name not in LEFT_OUT}
    numbers = {}
    for name, sequence in _sequences(connection).items():
        row = connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()
        if row.is_called:
            numbers[name] = int(row.last_value)
    return numbers


def set_next_numbers(connection: Connection, numbers: dict[str, int]) -> None:
    """Go on counting behind these numbers, and behind the rows that are there."""
    if connection.dialect.name == "sqlite":  # it has counted the rows that were put in
        for name, number in (numbers | _higher(numbers, next_numbers(connection))).items():
            row = {"name": name, "number": number}
            connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), row)
            connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)"), row)
        return
    for name, sequence in _sequences(connection).items():
        (key,) = inspect(connection).get_pk_constraint(name)["constrained_columns"]
        table = Table(name, sa.MetaData(), sa.Column(key, sa.BigInteger()))
        highest = connection.execute(select(sa.func.max(table.c[key]))).scalar_one() or 0
        if number := max(highest, numbers.get(name, 0)):
            connection.execute(text("SELECT setval(CAST(:sequence AS regclass), :number)"),
                               {"sequence": sequence, "number": number})  # fmt: skip


def _higher(numbers: dict[str, int], others: dict[str, int]) -> dict[str, int]:
    return {name: max(number, numbers.get(name, 0)) for name, number in others.items()}


def _sequences(connection: Connection) -> dict[str, str]:
    """Table → the sequence that numbers its rows, on PostgreSQL."""
    looked = inspect(connection)
    found = {}
    for one in columns_of(connection):
        keys = looked.get_pk_constraint(one.table)["constrained_columns"]
        if len(keys) == 1 and one.kinds[keys[0]] == "integer":
            asked = {"table": one.table, "key": keys[0]}
            name = connection.execute(text("SELECT pg_get_serial_sequence(:table, :key)"), asked).scalar_one()
            if name is not None:
                found[one.table] = str(name)
    return found


def drop_tables(connection: Connection) -> None:
    """Drop every table of ours that is there, the index of words and the mark of the revision too."""
    present = set(inspect(connection).get_table_names())
    cascade = " CASCADE" if connection.dialect.name == "postgresql" else ""
    names = ["inbox_words", *(table.name for table in reversed(metadata.sorted_tables)), "alembic_version"]
    for name in names:
        if name in present:
            connection.execute(text(f"DROP TABLE {name}{cascade}"))
