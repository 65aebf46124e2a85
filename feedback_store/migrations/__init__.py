"""The schema's history, run by the program itself: opening a store brings its database to the newest revision, unless
`store.upgrade` leaves that to `thumbwise migrate`.

A revision is frozen once released: it writes its tables out and imports nothing of `schema.py`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from feedback_store.errors import StoreError
from feedback_store.inbox_news import make_words_and_triggers
from feedback_store.schema import REVISION

if TYPE_CHECKING:
    from alembic.config import Config

# Any number, the same in every process: on PostgreSQL two programs that start together must not both create tables.
MIGRATION_LOCK = 7_410_551


def migrate(connection: Connection) -> None:
    """Create or upgrade the tables, inside the caller's transaction: a failed upgrade leaves the database as it was.

    Raises StoreError when the database is of a newer program than this one.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    if present_revision(connection) == REVISION:
        return
    upgrade_to(connection, REVISION)
    make_words_and_triggers(connection)


def refuse_older(connection: Connection) -> None:
    """Raise StoreError where the tables are of an older program: its owner wants to upgrade them by hand."""
    present = present_revision(connection)
    if present is not None and present < REVISION:
        raise StoreError(
            f"the database is at schema revision {present!r}, this program wants {REVISION!r}, and store.upgrade is "
            "by_hand. Stop what uses it, run `thumbwise backup`, then `thumbwise migrate`, and start again"
        )


def present_revision(connection: Connection) -> str | None:
    """Return the revision of the database's tables; None where there are none of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def upgrade_to(connection: Connection, revision: str) -> None:
    """Apply the steps up to a known `revision`, without the index of words and the triggers.

    Raises StoreError when the database is of a newer program.
    """
    # Loaded only here: a start on a database that is up to date should stay quick.
    from alembic import command
    from alembic.util import CommandError

    config = alembic_config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise StoreError(
            f"the database is at schema revision {present_revision(connection)!r}, this program knows up to "
            f"{REVISION!r}; install the version of thumbwise that wrote it, or a newer one"
        ) from error


def known_revisions() -> tuple[str, ...]:
    """Return every revision that this program knows, the first one first."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(alembic_config())
    return tuple(reversed([one.revision for one in script.walk_revisions()]))


def alembic_config() -> "Config":
    """How alembic finds the revisions."""
    from alembic.config import Config

    config = Config()
    # alembic reads % as a reference to another key.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
