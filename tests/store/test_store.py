"""Transactions: what is acknowledged is on the disk, what fails fails alone, and nobody waits for ever."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from feedback_store import feedback, raters
from feedback_store.errors import Conflict, NotFound, StoreError, StoreUnavailable
from feedback_store.records import NewFeedback
from feedback_store.settings import StoreSettings
from feedback_store.store import Store
from tests.store.conftest import Scene


def vote(number: int, reply_id: str = "one") -> NewFeedback:
    return NewFeedback("thumb", "anna", "web", reply_id=reply_id, thumb="up", idempotency_key=f"vote-{number}")


@pytest.fixture
def rated(scene: Scene) -> Store:
    scene.rater("anna")
    scene.reply("one")
    return scene.store


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def test_writes_that_wait_together_share_commits_and_are_all_acknowledged(rated: Store) -> None:
    commits = rated.commits

    async def storm() -> list[int]:
        acks = await asyncio.gather(*(rated.write_async(feedback.add_feedback, vote(n)) for n in range(300)))
        return [ack.feedback_id for ack in acks]

    ids = asyncio.run(storm())
    assert len(set(ids)) == 300
    assert rated.read(feedback.counts)["events"] == 300
    assert rated.commits - commits <= 30


def test_threads_write_beside_one_another(rated: Store) -> None:
    def click(worker: int) -> None:
        for number in range(10):
            rated.write(feedback.add_feedback, vote(worker * 10 + number))

    threads = [threading.Thread(target=click, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rated.read(feedback.counts)["events"] == 80


def test_a_bad_write_fails_alone_and_its_neighbours_are_stored(rated: Store) -> None:
    async def storm() -> list[object]:
        writes = [
            rated.write_async(feedback.add_feedback, vote(n, "none" if n % 10 == 3 else "one")) for n in range(50)
        ]
        return await asyncio.gather(*writes, return_exceptions=True)

    outcomes = asyncio.run(storm())
    failed = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, NotFound)]
    assert failed == [3, 13, 23, 33, 43]
    stored = {entry.act.idempotency_key for entry in rated.read(feedback.history, reply_id="one")}
    assert stored == {f"vote-{number}" for number in range(50) if number not in failed}


def test_the_half_of_a_write_that_fails_is_undone(rated: Store) -> None:
    def half(connection: Connection) -> None:
        raters.ensure_rater(connection, "ghost", "web")
        raise LookupError("half way")

    async def storm() -> tuple[object, ...]:
        return await asyncio.gather(
            rated.write_async(raters.ensure_rater, "before", "web"),
            rated.write_async(half),
            rated.write_async(raters.ensure_rater, "after", "web"),
            return_exceptions=True,
        )

    outcomes = asyncio.run(storm())
    assert [type(outcome) for outcome in outcomes] == [type(None), LookupError, type(None)]
    assert rated.read(raters.get_rater, "ghost") is None
    assert rated.read(raters.get_rater, "before") and rated.read(raters.get_rater, "after")


def test_a_wrong_statement_is_an_error_of_the_store_and_fails_alone(rated: Store) -> None:
    def wrong(connection: Connection) -> None:
        connection.execute(text("SELECT * FROM no_such_table"))

    def doubled(connection: Connection) -> None:
        for _ in range(2):
            connection.execute(text("INSERT INTO conversations VALUES ('c', 'web', '2026-01-01 00:00:00')"))

    with pytest.raises(StoreError, match="refused the statement"):
        rated.write(wrong)
    with pytest.raises(Conflict, match="refused the row"):
        rated.write(doubled)
    with pytest.raises(StoreError, match="refused to read"):
        rated.read(wrong)
    assert rated.write(feedback.add_feedback, vote(1)).duplicate is False


def test_a_commit_that_fails_stores_nothing_and_the_next_one_works(sqlite_store: Store) -> None:
    def broken_at_commit(connection: Connection) -> None:
        raters.ensure_rater(connection, "ghost", "web")
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(text("INSERT INTO round_selection VALUES (7, 7, 'train')"))

    with pytest.raises(StoreError, match="the store failed"):
        sqlite_store.write(broken_at_commit)
    assert sqlite_store.read(raters.get_rater, "ghost") is None
    sqlite_store.write(raters.ensure_rater, "ghost", "web")
    assert sqlite_store.read(raters.get_rater, "ghost")


def test_an_error_of_the_database_does_not_repeat_what_people_wrote(rated: Store) -> None:
    def doubled(connection: Connection) -> None:
        for _ in range(2):
            statement = text("INSERT INTO raters VALUES (:word, 'web', NULL, NULL, false, '2026-01-01 00:00:00')")
            connection.execute(statement, {"word": "a-secret"})

    with pytest.raises(Conflict) as refused:
        rated.write(doubled)
    assert "a-secret" not in repr(refused.value.__cause__).partition("DETAIL")[0]


def test_a_reader_sees_one_moment_and_changes_nothing(rated: Store) -> None:
    with rated.reading() as connection:
        before = feedback.counts(connection)["events"]
        rated.write(feedback.add_feedback, vote(1))
        assert feedback.counts(connection)["events"] == before
    assert rated.read(feedback.counts)["events"] == before + 1
    with pytest.raises(StoreError):
        rated.read(raters.ensure_rater, "ghost", "web")


def test_reading_can_be_awaited(rated: Store) -> None:
    assert asyncio.run(rated.read_async(feedback.counts))["replies"] == 1


def test_a_write_inside_a_write_is_refused_instead_of_waiting_for_itself(rated: Store) -> None:
    def inner(connection: Connection) -> None:
        rated.write(raters.ensure_rater, "x", "web")

    with pytest.raises(RuntimeError, match="inside a write"):
        rated.write(inner)


def test_a_caller_that_stops_waiting_harms_nobody(rated: Store) -> None:
    async def give_up() -> None:
        impatient = asyncio.ensure_future(rated.write_async(feedback.add_feedback, vote(1)))
        await asyncio.sleep(0)
        impatient.cancel()
        assert (await rated.write_async(feedback.add_feedback, vote(2))).duplicate is False

    asyncio.run(give_up())
    assert rated.read(feedback.counts)["events"] == 2


def test_a_closed_store_finishes_what_waits_and_refuses_what_comes(one_url: str) -> None:
    store = Store.open(one_url)
    store.write(raters.ensure_rater, "anna", "web")
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        store.write(raters.ensure_rater, "ben", "web")
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        store.read(raters.get_rater, "anna")
    with Store.open(one_url) as again:
        assert again.read(raters.get_rater, "anna")


def test_a_commit_is_on_the_disk_before_it_is_acknowledged(sqlite_store: Store) -> None:
    def pragmas(connection: Connection) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}

    assert sqlite_store.write(pragmas) == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.sqlite("the mode of its files")
def test_a_sqlite_file_is_its_owners_alone_and_leaves_no_log_behind(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/data/thumbwise.db"):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert modes and set(modes.values()) == {0o600}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["thumbwise.db", "thumbwise.db.lock"]


def test_a_second_writer_of_one_sqlite_file_is_refused_until_the_first_is_gone(sqlite_url: str) -> None:
    program = f"from feedback_store.store import Store; Store.open({sqlite_url!r}); print('open')"
    with Store.open(sqlite_url):
        with pytest.raises(Conflict, match=r"already written by process \d+; wanted: one process per SQLite file"):
            Store.open(sqlite_url)
        second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert second.returncode != 0 and "already written by process" in second.stderr
    with Store.open(sqlite_url):
        pass


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://user:secret@host/name", "names the database 'mysql'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("no url, secret", "is not a database URL"),
    ],
)
def test_a_url_of_something_else_is_refused_without_repeating_its_secrets(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as refused:
        Store.open(url)
    assert "secret" not in str(refused.value)


@pytest.mark.sqlite("a file")
def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "thumbwise.db"
    path.write_bytes(b"these are not the bytes of a database" * 100)
    with pytest.raises(StoreError, match=r"store\.url cannot be opened"):
        Store.open(f"sqlite:///{path}")


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        Store.open(f"postgresql://nobody@/none?host={tmp_path}", settings=StoreSettings(busy_timeout_s=1))


def test_a_locked_database_is_waited_for_and_then_written(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        other = sqlite3.connect(path_of(sqlite_url), isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=store.write, args=(raters.ensure_rater, "anna", "web"))
        writer.start()
        writer.join(0.15)
        assert writer.is_alive()
        assert store.read(raters.get_rater, "anna") is None  # reading goes on meanwhile
        other.execute("ROLLBACK")
        writer.join()
        assert store.read(raters.get_rater, "anna")
        other.close()


def test_a_database_that_stays_locked_is_refused_in_bounded_time_and_stores_nothing(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(sqlite_url, settings=StoreSettings(busy_timeout_s=0.2)) as store:
        other = sqlite3.connect(path_of(sqlite_url), isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="locked by another program; nothing was stored"):
                store.write(raters.ensure_rater, "anna", "web")
        other.execute("ROLLBACK")
        other.close()
        assert store.read(raters.get_rater, "anna") is None
        store.write(raters.ensure_rater, "ben", "web")
    assert caplog.messages == ["writes are refused cause=OperationalError", "writes are stored again"]


def test_a_full_disk_refuses_the_write_and_reading_goes_on(sqlite_store: Store) -> None:
    def fill(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    def large(connection: Connection) -> None:
        statement = text("INSERT INTO conversations VALUES (:word, 'web', '2026-01-01 00:00:00')")
        connection.execute(statement, [{"word": f"{number:060}"} for number in range(2_000)])

    sqlite_store.write(fill)
    with pytest.raises(StoreUnavailable, match="the disk of the database is full; nothing was stored"):
        sqlite_store.write(large)
    assert sqlite_store.read(lambda c: c.execute(text("SELECT count(*) FROM conversations")).scalar()) == 0
    sqlite_store.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000").scalar())
    sqlite_store.write(large)


def test_one_commit_a_write_when_the_settings_say_so(one_url: str) -> None:
    with Store.open(one_url, settings=StoreSettings(group_commit_max=1)) as store:
        before = store.commits

        async def storm() -> None:
            await asyncio.gather(*(store.write_async(raters.ensure_rater, f"r{n}", "web") for n in range(20)))

        asyncio.run(storm())
        assert store.commits - before == 20
