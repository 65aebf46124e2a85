"""Inserting a row unless it is there: the one place where the two databases want different words."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

_STATEMENTS: dict[tuple[str, str, bool], Any] = {}


def insert_if_new(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert the row; False when one with the same key is there already (it stays as it was)."""
    if connection.dialect.name == "postgresql":
        return connection.execute(_statement(connection, table, returning=True), values).first() is not None
    return connection.execute(_statement(connection, table), values).rowcount == 1


def insert_all_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows whose keys are not there already."""
    if rows:
        connection.execute(_statement(connection, table), rows)


def insert_feedback(connection: Connection, table: Table, values: dict[str, Any]) -> int | None:
    """Insert the row and return its number; None when one with the same key is there already."""
    if connection.dialect.name == "postgresql":
        statement = _statement(connection, table, returning=True)
        number: int | None = connection.execute(statement, values).scalar_one_or_none()
        return number
    # On SQLite the last row's number costs nothing, while RETURNING is a second step through the driver.
    result = connection.execute(_statement(connection, table), values)
    return int(result.lastrowid) if result.rowcount == 1 else None


def _statement(connection: Connection, table: Table, *, returning: bool = False) -> Any:
    key = (connection.dialect.name, table.name, returning)
    if key not in _STATEMENTS:
        make = postgresql_insert if key[0] == "postgresql" else sqlite_insert
        statement: Any = make(table).on_conflict_do_nothing()
        _STATEMENTS[key] = statement.returning(*table.primary_key) if returning else statement
    return _STATEMENTS[key]
