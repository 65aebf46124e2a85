"""Two programs over one PostgreSQL: each has a store of its own, and they meet only in the database."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from feedback_store import feedback, raters, replies, rounds, versions
from feedback_store.errors import Conflict, StoreUnavailable
from feedback_store.records import NewFeedback
from feedback_store.settings import StoreSettings
from feedback_store.store import Store
from tests.store.conftest import BASE_MODEL, Scene, begin_again, make_reply, new_postgres_database

pytestmark = pytest.mark.postgres


@pytest.fixture
def two(postgres_store: Store, postgres_url: str) -> Iterator[tuple[Store, Store]]:
    postgres_store.write(begin_again)
    with Store.open(postgres_url, settings=StoreSettings(busy_timeout_s=1)) as second:
        yield postgres_store, second


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls at the same moment; return their results or errors."""
    gate, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index: int) -> None:
        gate.wait()
        try:
            results[index] = calls[index]()
        except Exception as error:
            results[index] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_of_two_gets_the_round(two: tuple[Store, Store]) -> None:
    for _ in range(5):
        asked = at_once(
            *(
                lambda store=store: store.write(rounds.request_round, method=None, requested_by="x", settings={})
                for store in two
            )
        )
        assert sorted(type(outcome).__name__ for outcome in asked) == ["Conflict", "Round"]
        taken = at_once(
            *(
                lambda store=store, name=name: store.write(rounds.claim_round, name, 60)
                for name, store in zip("ab", two, strict=True)
            )
        )
        (winner,) = [found for found in taken if found is not None]
        assert winner.fence == 1
        two[0].write(rounds.cancel_round, winner.round_id, "test")


def test_one_of_two_moves_the_pointer(two: tuple[Store, Store]) -> None:
    made = at_once(
        *(
            lambda store=store, letter=letter: store.write(
                versions.add_candidate,
                base_model=BASE_MODEL,
                adapter_sha256=letter * 64,
                parent=1,
                method="kto",
                round_id=None,
                gate_report=None,
                metrics={},
            )
            for letter, store in zip("ab", two, strict=True)
        )
    )
    assert sorted(version.version for version in made) == [2, 3]
    moved = at_once(
        *(
            lambda store=store, number=number: store.write(
                versions.promote, number, actor="a", reason="r", expected_live=1
            )
            for number, store in zip((2, 3), two, strict=True)
        )
    )
    assert sorted(type(outcome).__name__ for outcome in moved) == ["Conflict", "Deployment"]


def test_a_vote_repeated_over_another_program_counts_once(two: tuple[Store, Store]) -> None:
    scene = Scene(two[0])
    scene.rater("anna")
    scene.reply("one")
    act = NewFeedback("thumb", "anna", "web", reply_id="one", thumb="up", idempotency_key="k")
    acks = at_once(*(lambda store=store: store.write(feedback.add_feedback, act) for store in two))
    assert sorted(ack.duplicate for ack in acks) == [False, True]
    assert len({ack.feedback_id for ack in acks}) == 1


def test_what_another_program_deleted_is_not_remembered(two: tuple[Store, Store]) -> None:
    scene = Scene(two[0])
    scene.rater("anna")
    scene.reply("one")
    two[1].write(lambda connection: connection.exec_driver_sql("DELETE FROM replies"))
    with pytest.raises(LookupError, match="no reply 'one'"):
        scene.act("thumb", "anna", reply_id="one", thumb="up")
    scene.reply("one")


def test_a_row_that_another_program_holds_is_waited_for_in_bounded_time(two: tuple[Store, Store]) -> None:
    held, go = threading.Event(), threading.Event()

    def hold(connection: Any) -> None:
        connection.exec_driver_sql("SELECT * FROM live_pointer FOR UPDATE")
        held.set()
        go.wait()

    holder = threading.Thread(target=two[0].write, args=(hold,))
    holder.start()
    held.wait()
    try:
        with pytest.raises(StoreUnavailable):
            two[1].write(versions.rollback, actor="a", reason="r")
        with pytest.raises(StoreUnavailable):
            two[1].write(versions.rollback, actor="a", reason="r")
    finally:
        go.set()
        holder.join()
    with pytest.raises(Conflict, match="nothing to roll back to"):
        two[1].write(versions.rollback, actor="a", reason="r")


def test_a_connection_that_was_cut_is_made_again(two: tuple[Store, Store]) -> None:
    two[1].write(raters.ensure_rater, "anna", "web")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    cut += " AND datname = current_database()"
    two[0].write(lambda connection: connection.exec_driver_sql(cut).all())
    two[1].write(raters.ensure_rater, "ben", "web")
    assert two[1].read(raters.get_rater, "ben")
    two[1].write(replies.add_reply, make_reply("one"))


def test_two_that_start_together_make_the_tables_once(postgres_server: str) -> None:
    url = new_postgres_database(postgres_server)
    opened = at_once(lambda: Store.open(url), lambda: Store.open(url))
    for store in opened:
        assert isinstance(store, Store), store
    started = at_once(*(lambda store=store: store.write(versions.bootstrap, BASE_MODEL) for store in opened))
    assert [version.version for version in started] == [1, 1]
    for store in opened:
        store.close()
