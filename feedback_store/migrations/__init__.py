"""The schema's history, run by the program itself: opening a store brings its database to the newest revision.

A revision is frozen once released: it writes its tables out and imports nothing of `schema.py`.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from feedback_store.errors import StoreError
from feedback_store.inbox_news import make_words_and_triggers
from feedback_store.schema import REVISION

# Any number, the same in every process: on PostgreSQL two programs that start together must not both create tables.
MIGRATION_LOCK = 7_410_551


def migrate(connection: Connection) -> None:
    """Create or upgrade the tables, inside the caller's transaction: a failed upgrade leaves the database as it was.

    Raises StoreError when the database is of a newer program than this one.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    present = None
    if inspect(connection).has_table("alembic_version"):
        present = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if present == REVISION:
        return

    # Loaded only here: a start on a database that is up to date should stay quick.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # alembic reads % as a reference to another key.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            f"the database is at schema revision {present!r}, this program knows up to {REVISION!r}; "
            "install the version of thumbwise that wrote it, or a newer one"
        ) from error
    make_words_and_triggers(connection)
