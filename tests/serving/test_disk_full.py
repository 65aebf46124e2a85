"""A full disk: votes and rounds are refused in words, readiness says so, chat goes on, and all is well with space.

A limit on the size of files stands in for a small disk: SQLite is told EFBIG where a disk would tell ENOSPC, any
program may set it, and it can be lifted again. `make bench-faults` does the same to a whole server at 100 points.
"""

import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import OperationalError

from feedback_store.outages import outage_of
from tests.waiting import until


@contextmanager
def no_room_left(largest_bytes: int) -> Iterator[None]:
    """Let no file of this process be written beyond that size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def vote(client, reply_id: str, key: str):
    body = {"rater": "anna", "reply_id": reply_id, "thumb": "up"}
    return client.post("/v1/feedback", json=body, headers={"idempotency-key": key})


@pytest.mark.sqlite("its files are what a limit on files is for")
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system limits no file's size")
def test_a_full_disk_refuses_votes_rounds_and_promotions_while_chat_goes_on_and_mends_itself(
    client, admin, chat, candidate, tmp_path
):
    reply_id = chat()["id"]
    assert vote(client, reply_id, "before").status_code == 200
    with no_room_left((tmp_path / "thumbwise.db-wal").stat().st_size):
        refused = vote(client, reply_id, "meanwhile")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "store_unavailable"
        assert admin.post("/v1/rounds", json={"force": True}).status_code == 503
        assert admin.post("/v1/versions/2/promote", json={"reason": "r", "force": True}).status_code == 503
        assert admin.get("/v1/status").json()["live"]["version"] == 1
        assert chat()["choices"][0]["message"]["content"] and chat()["choices"][0]["reply_id"] is None
        ready = client.get("/readyz")
        assert ready.status_code == 503 and ready.json()["store"] is False
        assert client.get("/healthz").status_code == 200
    # Nobody writes: readiness finds by itself that there is room again.
    begun = time.monotonic()
    until(lambda: client.get("/readyz").status_code == 200)
    assert time.monotonic() - begun < 5
    again = vote(client, reply_id, "meanwhile")
    assert again.status_code == 200 and again.json()["duplicate"] is False
    with sqlite3.connect(f"file:{tmp_path / 'thumbwise.db'}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM feedback").fetchone() == (2,)
    database.close()


@pytest.mark.sqlite("a PostgreSQL of its own on a small disk is none")
def test_a_server_on_a_file_system_that_is_full_loses_no_acknowledged_vote(tmp_path):
    from benchmarks._small_disk import may_mount, run_small_disk

    if not may_mount(tmp_path / "disk"):
        pytest.skip("this machine lets us mount nothing (a limit on the size of files stands in, below)")
    found = run_small_disk(tmp_path / "disk", points=3, seed=0)
    assert (found.votes.lost, found.votes.doubled, found.failed_replies, found.green) == (0, 0, 0, 0)
    assert found.whole and found.delivered and found.longest_back_s < 5


@pytest.mark.parametrize(
    ("name", "said"),
    [("SQLITE_FULL", "the disk of the database is full"), ("SQLITE_IOERR_WRITE", "the database cannot be used")],
)
def test_a_full_disk_is_told_from_a_wrong_statement(name: str, said: str):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    outage = outage_of(OperationalError("INSERT …", {}, error))
    assert outage is not None and said in str(outage)


@pytest.mark.sqlite("its files are what a limit on files is for")
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="this system limits no running process")
def test_a_server_whose_disk_is_full_at_any_byte_loses_no_acknowledged_vote(tmp_path):
    from benchmarks._full_disk import run_full_disk

    found = run_full_disk(tmp_path, points=5, seed=0)
    assert (found.votes.lost, found.votes.doubled, found.failed_replies, found.green) == (0, 0, 0, 0)
    assert found.whole and found.delivered and found.longest_back_s < 5
