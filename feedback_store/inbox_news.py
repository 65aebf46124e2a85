"""How the inbox hears of changes, and the index of words: what schema and alembic have no words for.

Triggers write a line into `inbox_news` in the transaction of the change itself, so that no writer can forget to, and
none can be lost: on PostgreSQL numbers are committed out of order, so a number to remember would miss some. A line
costs a vote a few microseconds; putting it into the inbox costs far more, and `inbox.catch_up` does that later.

Made anew whenever a migration ran, not written out in one: SQLite drops a table's triggers when a migration copies it.
"""

from sqlalchemy import Connection, text

_ITEMS_OF_RATER = (
    "INSERT INTO inbox_news (reply_id) SELECT inbox.reply_id FROM inbox_raters"
    " JOIN inbox ON inbox.item_id = inbox_raters.item_id WHERE inbox_raters.rater_id = {row}.rater_id"
)
_OF_ACT = "INSERT INTO inbox_news (reply_id, comparison_id) VALUES ({row}.reply_id, {row}.comparison_id)"
_OF_REPLY = "INSERT INTO inbox_news (reply_id) VALUES ({row}.reply_id)"

TRIGGERS = {
    "inbox_feedback_added": ("feedback", "INSERT", _OF_ACT.format(row="NEW")),
    "inbox_feedback_changed": ("feedback", "UPDATE", _OF_ACT.format(row="NEW")),
    "inbox_feedback_removed": ("feedback", "DELETE", _OF_ACT.format(row="OLD")),
    # A text that is taken out of a reply leaves the index of words too.
    "inbox_reply_changed": ("replies", "UPDATE", _OF_REPLY.format(row="NEW")),
    "inbox_reply_removed": ("replies", "DELETE", _OF_REPLY.format(row="OLD")),
    "inbox_rater_quarantined": ("raters", "UPDATE OF quarantined", _ITEMS_OF_RATER.format(row="NEW")),
}
"""Name → table, event, and what is done for each row."""


def make_words_and_triggers(connection: Connection) -> None:
    """Make the index of words unless it is there, and the triggers anew."""
    if connection.dialect.name == "postgresql":
        _run(connection, "CREATE TABLE IF NOT EXISTS inbox_words (item_id BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)")
        _run(connection, "CREATE INDEX IF NOT EXISTS ix_inbox_words ON inbox_words USING GIN (words)")
    else:
        # 'ascii' takes whatever is not ASCII for a letter: it only cuts at the spaces that words.py has put.
        _run(connection, "CREATE VIRTUAL TABLE IF NOT EXISTS inbox_words USING fts5(words, tokenize='ascii')")
    for name, (table, event, statement) in TRIGGERS.items():
        _run(connection, f"DROP TRIGGER IF EXISTS {name}" + _on(connection, table))
        if connection.dialect.name == "postgresql":
            body = f"BEGIN {statement}; RETURN NULL; END"
            _run(connection, f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
            _run(
                connection,
                f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()",
            )
        else:
            _run(connection, f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {statement}; END")


def _on(connection: Connection, table: str) -> str:
    return f" ON {table}" if connection.dialect.name == "postgresql" else ""


def _run(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))
