"""Due times of the schedule: settled once, whoever looks and however often."""

from datetime import UTC, datetime

from feedback_store import dues, rounds, versions
from feedback_store.store import Store
from tests.store.conftest import BASE_MODEL

THREE = "2026-11-21T03:00"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def ask(store: Store, due: str = THREE) -> tuple[str, int | None]:
    settled = store.write(dues.ask_due, due, method="kto", requested_by="schedule", at=NOON)
    return settled.state, settled.round_id


def test_a_due_time_gets_one_round_however_often_it_is_asked_for(store: Store) -> None:
    store.write(versions.bootstrap, BASE_MODEL)
    assert store.read(dues.get_due, THREE) is None
    first = ask(store)
    assert first[0] == "asked"
    assert first[1] is not None
    store.write(rounds.cancel_round, first[1], "anna")
    assert ask(store) == first
    assert store.write(dues.skip_due, THREE, "quiet hours").state == "asked"
    assert len(store.read(rounds.list_rounds)) == 1


def test_a_due_time_waits_for_the_open_round_and_is_then_asked_for(store: Store) -> None:
    store.write(versions.bootstrap, BASE_MODEL)
    by_hand = store.write(rounds.request_round, method=None, requested_by="anna", settings={})
    assert ask(store) == ("waiting", None)
    assert ask(store) == ("waiting", None)
    assert "is open" in store.read(dues.get_due, THREE).reason
    store.write(rounds.cancel_round, by_hand.round_id, "anna")
    state, round_id = ask(store)
    assert round_id is not None
    assert (state, store.read(rounds.get_round, round_id).requested_by) == ("asked", "schedule")


def test_a_skipped_due_time_stays_skipped_and_says_why(store: Store) -> None:
    store.write(versions.bootstrap, BASE_MODEL)
    store.write(dues.skip_due, THREE, "not ready for KTO: thumbs 3 of 200", at=NOON)
    assert ask(store) == ("skipped", None)
    assert ask(store, "2026-11-21T04:00")[0] == "asked"
    found = store.read(dues.list_dues)
    assert [(one.due[-5:], one.state) for one in found] == [("04:00", "asked"), ("03:00", "skipped")]
    assert found[1].reason == "not ready for KTO: thumbs 3 of 200"
    assert store.read(dues.list_dues, 1) == found[:1]
