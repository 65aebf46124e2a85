"""A bot's own small file: the inbox that loses no update, and the marks of what it showed. Apart from the store.

Why a file of its own and not tables of the store: a bot is a process apart that reaches the server over HTTP, often on
another machine, and must take updates in while the server is down; and one process alone may write a SQLite file. It is
built from the store's own parts (one writing thread, group commit, a lock file), so that a batch of a hundred updates
costs one flush of the disk.

**Inbox.** Platforms hand an update over once: asking for the next ones confirms the last. So a batch is committed here
before it is confirmed, keyed (bot, update), and worked on from here; what was not finished is worked on again after a
restart. `steps` are what a piece of work has behind it (a message that was sent, a reply that was drawn), so that the
second try goes on where the first was cut off. When an update is done its content is deleted and its steps too: without
consent no text may stay. The database overwrites what it deletes (`secure_delete`) and keeps no log of old pages (a
rollback journal that is truncated, not a write-ahead log).

**Marks.** Messages and people are known by keyed hashes that the bot makes; see `thumbwise.rating.book`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from feedback_store.databases import connect_databases
from feedback_store.schema import UtcTime, now
from feedback_store.settings import StoreSettings
from feedback_store.store import Store

KEEP_DONE = timedelta(days=3)
"""How long an update's number is remembered: no platform delivers one again after a day."""
KEEP_MARKS = timedelta(days=180)
"""How long a message can be rated by a reaction, or a vote be undone by pressing again."""

metadata = MetaData()
inbox = Table(
    "inbox",
    metadata,
    Column("bot_id", BigInteger, primary_key=True, autoincrement=False),
    Column("update_id", BigInteger, primary_key=True, autoincrement=False),
    Column("content", Text),
    Column("done", Boolean, nullable=False, server_default=text("0")),
    Column("received_at", UtcTime, nullable=False),
    Index("ix_inbox_undone", "bot_id", "update_id", sqlite_where=text("done = 0")),
)
steps = Table(
    "steps",
    metadata,
    Column("bot_id", BigInteger, primary_key=True, autoincrement=False),
    Column("update_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
shown = Table(
    "shown",
    metadata,
    Column("message", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("target", String(64), nullable=False),
    Column("owner", String(32), nullable=False, index=True),
    Column("at", UtcTime, nullable=False, index=True),
)
choices = Table(
    "choices",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("person", String(32), primary_key=True, index=True),
    Column("choice", String(64)),
    Column("event", String(64), nullable=False),
    Column("at", UtcTime, nullable=False, index=True),
)
notes = Table(
    "notes",
    metadata,
    Column("note", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class StoredUpdate:
    """An update that waits to be worked on. `content` is what the platform sent, as JSON."""

    update_id: int
    content: str


def open_bot_file(path: Path, *, settings: StoreSettings = StoreSettings()) -> Store:
    """Open a bot's file, made when missing (mode 0600), for this process alone. Raises Conflict when another holds it.

    Use `write` and `write_async` for everything, reading included: the one connection then always sees its own writes.
    """
    databases = connect_databases(f"sqlite:///{path}", settings.busy_timeout_s)
    try:
        with databases.writer.connect() as connection:
            connection.exec_driver_sql("COMMIT")  # a pragma of the journal works outside a transaction alone
            for pragma in ("journal_mode=TRUNCATE", "secure_delete=ON", "synchronous=FULL"):
                connection.exec_driver_sql(f"PRAGMA {pragma}").close()
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            metadata.create_all(connection)
            connection.commit()
    except BaseException:
        databases.close()
        raise
    return Store(databases, settings)


def add_updates(connection: Connection, bot_id: int, updates: Sequence[tuple[int, str]]) -> list[int]:
    """Store updates (number, content) and return the numbers of those that are new, in the order given."""
    new = []
    at = now()
    for update_id, content in updates:
        row = {"bot_id": bot_id, "update_id": update_id, "content": content, "received_at": at}
        if connection.execute(insert(inbox).values(row).on_conflict_do_nothing()).rowcount:
            new.append(update_id)
    return new


def undone_updates(connection: Connection, bot_id: int) -> list[StoredUpdate]:
    """Return the updates that are not done, by number."""
    query = (
        select(inbox.c.update_id, inbox.c.content)
        .where(inbox.c.bot_id == bot_id, inbox.c.done.is_(False), inbox.c.content.is_not(None))
        .order_by(inbox.c.update_id)
    )
    return [StoredUpdate(row.update_id, row.content) for row in connection.execute(query)]


def finish_update(connection: Connection, bot_id: int, update_id: int) -> None:
    """Mark an update as done, and delete what it said and the steps on the way."""
    mine = (inbox.c.bot_id == bot_id) & (inbox.c.update_id == update_id)
    connection.execute(update(inbox).where(mine).values(done=True, content=None))
    connection.execute(delete(steps).where(steps.c.bot_id == bot_id, steps.c.update_id == update_id))


def count_undone(connection: Connection, bot_id: int) -> int:
    """Count the updates that are not done."""
    query = select(func.count()).select_from(inbox).where(inbox.c.bot_id == bot_id, inbox.c.done.is_(False))
    return int(connection.execute(query).scalar_one())


def step_of(connection: Connection, bot_id: int, update_id: int, name: str) -> str | None:
    """Return what a step of an update's work left behind; None if it was not reached."""
    query = select(steps.c.value).where(steps.c.bot_id == bot_id, steps.c.update_id == update_id, steps.c.name == name)
    return connection.execute(query).scalar()


def set_step(connection: Connection, bot_id: int, update_id: int, name: str, value: str) -> None:
    """Note that a step is behind an update's work."""
    row = {"bot_id": bot_id, "update_id": update_id, "name": name, "value": value}
    connection.execute(insert(steps).values(row).on_conflict_do_update(set_={"value": value}))


def show(connection: Connection, message: str, kind: str, target: str, owner: str) -> None:
    """Note what a message stands for."""
    row = {"message": message, "kind": kind, "target": target, "owner": owner, "at": now()}
    connection.execute(insert(shown).values(row).on_conflict_do_update(set_=row))


def shown_as(connection: Connection, message: str) -> tuple[str, str, str] | None:
    """Return kind, target and owner of a message."""
    row = connection.execute(select(shown).where(shown.c.message == message)).one_or_none()
    return None if row is None else (row.kind, row.target, row.owner)


def choose(
    connection: Connection, target: str, person: str, choice: str | None, event: str, toggle: bool
) -> str | None:
    """Note a choice and return what counts now; with `toggle` the same again is taken back. See ReplyBook.choose."""
    mine = (choices.c.target == target) & (choices.c.person == person)
    row = connection.execute(select(choices.c.choice, choices.c.event).where(mine)).one_or_none()
    if row is not None and event and row.event == event:
        return None if row.choice is None else str(row.choice)
    chosen = None if toggle and row is not None and row.choice == choice else choice
    values = {"target": target, "person": person, "choice": chosen, "event": event, "at": now()}
    connection.execute(insert(choices).values(values).on_conflict_do_update(set_=values))
    return chosen


def choice_of(connection: Connection, target: str, person: str) -> str | None:
    """Return what a person has chosen on a target."""
    query = select(choices.c.choice).where(choices.c.target == target, choices.c.person == person)
    return connection.execute(query).scalar()


def count_choices(connection: Connection, target: str) -> dict[str, int]:
    """Count the choices on a target."""
    query = (
        select(choices.c.choice, func.count())
        .where(choices.c.target == target, choices.c.choice.is_not(None))
        .group_by(choices.c.choice)
    )
    return {str(choice): int(count) for choice, count in connection.execute(query)}


def first_time(connection: Connection, note: str) -> bool:
    """Make a note, and say whether it is the first time."""
    row = {"note": note, "value": "", "at": now()}
    return bool(connection.execute(insert(notes).values(row).on_conflict_do_nothing()).rowcount)


def note_of(connection: Connection, note: str) -> str | None:
    """Return the value of a note; None if there is none."""
    return connection.execute(select(notes.c.value).where(notes.c.note == note)).scalar()


def set_note(connection: Connection, note: str, value: str) -> None:
    """Set the value of a note."""
    row = {"note": note, "value": value, "at": now()}
    connection.execute(insert(notes).values(row).on_conflict_do_update(set_=row))


def forget_person(connection: Connection, person: str) -> None:
    """Drop everything that bears a person's mark."""
    connection.execute(delete(shown).where(shown.c.owner == person))
    connection.execute(delete(choices).where(choices.c.person == person))
    connection.execute(delete(notes).where(notes.c.note.contains(person, autoescape=True)))


def tidy(connection: Connection, at: datetime | None = None) -> None:
    """Drop what is too old to matter: numbers of finished updates, marks of old messages."""
    present = at or now()
    connection.execute(delete(inbox).where(inbox.c.done.is_(True), inbox.c.received_at < present - KEEP_DONE))
    connection.execute(delete(shown).where(shown.c.at < present - KEEP_MARKS))
    connection.execute(delete(choices).where(choices.c.at < present - KEEP_MARKS))


def finish_all(connection: Connection, bot_id: int, update_ids: Iterable[int]) -> None:
    """`finish_update` for several."""
    for update_id in update_ids:
        finish_update(connection, bot_id, update_id)
