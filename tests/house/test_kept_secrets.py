"""The search for secrets over a whole run finds what is there: else its silence would say nothing."""

import logging
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks._postgres import running_postgres
from feedback_store.access import keys, sessions, users
from feedback_store.store import Store
from tests.kept_secrets import CHOSEN, MARK, leak_of_error, leaks


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that is not searched when the run is over."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_secret_in_a_log_a_database_an_export_or_beside_its_file_is_found_and_not_repeated(
    elsewhere: Path,
) -> None:
    (elsewhere / "sound" / "data").mkdir(parents=True)
    (elsewhere / "sound" / "data" / "admin.token").write_text("a-token-of-its-own\n")
    (elsewhere / "sound" / "data" / "printed.txt").write_text("token a-token-of-its-own\n")
    (elsewhere / "elsewhere.txt").write_text("a-token-of-its-own")
    assert leaks(elsewhere) == []
    (elsewhere / "some.log").write_text(f"Bearer {MARK}abcdef")
    (elsewhere / "out.jsonl").write_text('{"password": "' + CHOSEN[2] + '"}')
    (elsewhere / "sound" / "data" / "thumbwise.log").write_text("sent a-token-of-its-own")
    with sqlite3.connect(elsewhere / "thumbwise.db") as database:
        database.execute("CREATE TABLE sessions (token TEXT)")
        database.execute("INSERT INTO sessions VALUES (?)", (MARK + "0123456789",))
    database.close()
    found = leaks(elsewhere)
    assert sorted(found) == ["out.jsonl", "some.log", "sound/data/thumbwise.log", "thumbwise.db"]


def test_what_the_program_makes_while_tests_run_bears_the_mark_and_works(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'thumbwise.db'}") as store:
        person = store.write(users.add_user, "anna", "admin")
        token = store.write(sessions.begin_session, person.user_id, 1.0)
        _, key = store.write(keys.add_key, "nightly", ("read",), "anna")
        assert token.startswith(MARK) and MARK in key
        assert store.read(sessions.find_session, token) is not None and store.read(keys.find_key, key) is not None
    assert leaks(tmp_path) == []


@pytest.mark.parametrize("name", ["bot", "feedback_store", "serving", "thumbwise", "trainer"])
def test_our_logs_are_kept_at_debug(name: str) -> None:
    assert logging.getLogger(f"{name}.any").isEnabledFor(logging.DEBUG)


def test_a_secret_in_the_answer_of_an_error_is_found_and_not_repeated() -> None:
    request = httpx.Request("GET", "http://127.0.0.1/v1/keys?of=anna")
    told = [
        leak_of_error(httpx.Response(status, text=text, request=request))
        for status, text in ((200, MARK + "abc"), (401, "a wrong key"), (401, f"the key is not {MARK}abc"))
    ]
    assert told == [None, None, "401 of GET /v1/keys"]


@pytest.mark.postgres
def test_a_secret_is_found_in_the_files_of_the_tests_postgresql() -> None:
    import psycopg

    with running_postgres() as server:
        files = Path(server.rpartition("host=")[2])
        assert leaks(files) == []
        with psycopg.connect(server.format(database="postgres"), autocommit=True) as connection:
            connection.execute("CREATE TABLE notes (words TEXT)")
            connection.execute("INSERT INTO notes VALUES (%s)", (MARK + "0123456789",))
        assert any(name.startswith("data/pg_wal/") for name in leaks(files))
