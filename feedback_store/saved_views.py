"""Saved views: a name for a query of the inbox, of the person who saved it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from feedback_store.checks import check_text
from feedback_store.errors import NotFound, Refused
from feedback_store.review_schema import saved_views
from feedback_store.schema import now

MOST_VIEWS = 50
"""Views of one person."""
MOST_NAME_CHARACTERS = 60
MOST_QUERY_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class SavedView:
    """`query` is the part of the address after "?"."""

    view_id: int
    owner: str
    name: str
    query: str
    created_at: datetime


def save_view(connection: Connection, owner: str, name: str, query: str) -> SavedView:
    """Save a view; one of the same name is replaced. Raises Refused for a name or query that cannot be, or too many."""
    check_text("name", name.strip(), least=1, most=MOST_NAME_CHARACTERS)
    check_text("query", query, most=MOST_QUERY_CHARACTERS)
    values = {"owner": owner, "name": name.strip(), "query": query, "created_at": now()}
    same = (saved_views.c.owner == owner) & (saved_views.c.name == values["name"])
    others = select(func.count()).select_from(saved_views).where(saved_views.c.owner == owner, ~same)
    if connection.execute(others).scalar_one() >= MOST_VIEWS:
        raise Refused("name", f"there are {MOST_VIEWS} saved views; wanted: delete one before saving another")
    make: Any = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    statement = make(saved_views).values(**values)
    connection.execute(statement.on_conflict_do_update(index_elements=["owner", "name"], set_={"query": query}))
    return SavedView(**connection.execute(select(saved_views).where(same)).mappings().one())


def list_views(connection: Connection, owner: str) -> list[SavedView]:
    """Return a person's views by name."""
    query = select(saved_views).where(saved_views.c.owner == owner).order_by(saved_views.c.name)
    return [SavedView(**row) for row in connection.execute(query).mappings()]


def delete_view(connection: Connection, owner: str, view_id: int) -> None:
    """Delete one of a person's views. Raises NotFound: somebody else's is not there."""
    mine = (saved_views.c.view_id == view_id) & (saved_views.c.owner == owner)
    if connection.execute(delete(saved_views).where(mine)).rowcount == 0:
        raise NotFound(f"no saved view {view_id}")
