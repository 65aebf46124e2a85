"""Reading results of tens of thousands of rows."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import CursorResult, Result

IN_PARTS = {"yield_per": 1_000}
"""Execution option of a query with very many rows: a driver that fetches all of them at once holds up every other
thread of the process, the one that draws pages among them."""


def as_dicts(result: CursorResult[Any] | Result[Any]) -> Iterator[dict[str, Any]]:
    """Yield each row as a dict by column. `.mappings()` looks its keys up anew for every row, which took longer than
    the query itself."""
    names = tuple(result.keys())
    return (dict(zip(names, row, strict=True)) for row in result)
