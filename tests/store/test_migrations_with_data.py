"""A store of every earlier revision, with rows in each table that it had, is whole after the upgrade."""

from pathlib import Path

import pytest
from sqlalchemy import Connection

from feedback_store import feedback, inbox, versions
from feedback_store.backup.tables import columns_of, drop_tables
from feedback_store.databases import connect_databases
from feedback_store.errors import StoreError
from feedback_store.inbox_news import make_words_and_triggers
from feedback_store.looking import look_at_schema
from feedback_store.migrations import known_revisions, present_revision, upgrade_to
from feedback_store.records import NewFeedback
from feedback_store.schema import REVISION
from feedback_store.settings import StoreSettings
from feedback_store.store import Store
from tests.store.conftest import BACKENDS, new_postgres_database
from tests.store.every_table import fill_every_table, rows_of

WITH_AN_INBOX = "0005"


@pytest.fixture(scope="module")
def spare_postgres(postgres_server: str) -> str:
    """One database for all revisions: making one takes longer than emptying it."""
    return new_postgres_database(postgres_server)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/thumbwise.db"
    found: str = request.getfixturevalue("spare_postgres")
    return found


def make_store(url: str, revision: str) -> dict[str, list[dict[str, object]]]:
    """A store as the programs of then left it; returns its rows."""

    def make(connection: Connection) -> dict[str, list[dict[str, object]]]:
        drop_tables(connection)
        upgrade_to(connection, revision)
        if revision >= WITH_AN_INBOX:
            make_words_and_triggers(connection)
        fill_every_table(connection)
        return rows_of(connection)

    databases = connect_databases(url, 5)
    try:
        with databases.writer.begin() as connection:
            return make(connection)
    finally:
        databases.close()


def earlier() -> list[str]:
    return [revision for revision in known_revisions() if revision != REVISION]


@pytest.mark.parametrize("revision", earlier())
def test_an_upgrade_loses_no_row_and_bends_no_value(url: str, revision: str) -> None:
    before = make_store(url, revision)
    assert all(before.values()), "every table has rows"
    with Store.open(url) as store:
        assert store.read(present_revision) == REVISION
        after = store.read(rows_of)
        act = NewFeedback("thumb", "rater-1", "web", reply_id="reply-1", thumb="up")
        assert store.write(feedback.add_feedback, act).feedback_id == 10, "9 was given out before, and deleted"
        assert store.read(versions.live_version).version == 2
        while store.write(inbox.catch_up):
            pass
        shown = {row["reply_id"]: row["ups"] for row in store.read(rows_of)["inbox"]}
    assert shown == {"reply-1": 1, "duel-0": 0, "duel-1": 0}
    for table, rows in before.items():
        kept = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert [row for row in rows if row not in kept] == [], table
        assert len(kept) == len(rows) or table == "inbox_news", table


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_store(url, "0001")

    def fail(connection: Connection) -> None:
        raise RuntimeError("the last thing that an upgrade does")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr("feedback_store.migrations.make_words_and_triggers", fail)
        Store.open(url)
    databases = connect_databases(url, 5)
    with databases.writer.connect() as connection:
        assert present_revision(connection) == "0001"
        assert [one.table for one in columns_of(connection, left_out=())] == list(before)
        assert rows_of(connection) == before
    databases.close()


def test_where_upgrades_are_done_by_hand_a_start_says_what_to_do(url: str) -> None:
    by_hand = StoreSettings(upgrade="by_hand")
    make_store(url, "0004")
    look = look_at_schema(url)
    assert (look.present, look.wanted, look.is_older) == ("0004", REVISION, True)
    with pytest.raises(StoreError, match=r"revision '0004', this program wants .* `thumbwise migrate`"):
        Store.open(url, settings=by_hand)
    Store.open(url).close()
    Store.open(url, settings=by_hand).close()
