"""The canary: one version beside the live one, begun and ended in the transaction that the log tells of."""

import threading

import pytest
from sqlalchemy import text

from feedback_store import versions
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.records import Deployment
from feedback_store.store import Store
from tests.store.test_versions import candidate, promote, states


def start(store: Store, version: int, share: float = 0.1, **changes: object) -> Deployment:
    return store.write(versions.start_canary, version, share, actor="admin", reason="look", **changes)  # type: ignore[arg-type]


def stop(store: Store, **changes: object) -> Deployment:
    return store.write(versions.stop_canary, actor="admin", reason="enough", **changes)  # type: ignore[arg-type]


def canary_of(store: Store) -> tuple[int, float] | None:
    found = store.read(versions.canary)
    return None if found is None else (found.version.version, found.share)


def test_a_canary_moves_state_pointer_and_log_together(store: Store) -> None:
    candidate(store, "a")
    assert canary_of(store) is None
    moved = start(store, 2, 0.25, expected_live=1)
    assert (moved.action, moved.version, moved.from_version, moved.share) == ("canary", 2, 1, 0.25)
    assert (moved.actor, moved.reason, moved.forced) == ("admin", "look", False)
    assert canary_of(store) == (2, 0.25)
    assert states(store) == {1: "live", 2: "canary"}
    assert store.read(versions.live_version).version == 1
    assert store.read(versions.pointer_revision) == 2
    assert store.read(versions.deployments, 1) == [moved]


def test_a_stopped_canary_is_retired_and_may_come_back(store: Store) -> None:
    candidate(store, "a")
    start(store, 2)
    moved = stop(store, expected_canary=2)
    assert (moved.action, moved.version, moved.from_version, moved.share) == ("canary_stop", 2, 1, None)
    assert states(store) == {1: "live", 2: "retired"}
    assert canary_of(store) is None
    assert store.read(versions.pointer_revision) == 3
    start(store, 2, 0)
    assert canary_of(store) == (2, 0.0)


def test_another_share_is_another_move_of_the_same_canary(store: Store) -> None:
    candidate(store, "a")
    start(store, 2, 0.1)
    start(store, 2, 0.5)
    assert canary_of(store) == (2, 0.5)
    assert [move.share for move in store.read(versions.deployments, 2)] == [0.5, 0.1]
    assert store.read(versions.pointer_revision) == 3


def test_promoting_the_canary_makes_it_live_and_ends_it(store: Store) -> None:
    candidate(store, "a")
    start(store, 2)
    before = store.read(versions.pointer_revision)
    promote(store, 2, expected_live=1)
    assert states(store) == {1: "retired", 2: "live"}
    assert canary_of(store) is None
    assert store.read(versions.pointer_revision) > before


def test_promoting_another_version_or_rolling_back_ends_the_canary(store: Store) -> None:
    candidate(store, "a")
    candidate(store, "b")
    start(store, 2)
    promote(store, 3)
    assert states(store) == {1: "retired", 2: "retired", 3: "live"}
    assert canary_of(store) is None
    start(store, 2)
    store.write(versions.rollback, actor="a", reason="r")
    assert states(store) == {1: "live", 2: "retired", 3: "retired"}
    assert canary_of(store) is None


def test_a_canary_is_no_step_of_the_way_back(store: Store) -> None:
    candidate(store, "a")
    start(store, 2)
    stop(store)
    with pytest.raises(Conflict, match="version 1 is the first"):
        store.write(versions.rollback, actor="a", reason="r")
    candidate(store, "b")
    promote(store, 3)
    start(store, 2)
    assert store.write(versions.rollback, actor="a", reason="r").version == 1


def test_what_cannot_be_a_canary_is_refused_and_moves_nothing(store: Store) -> None:
    candidate(store, "a")
    candidate(store, "b", state="rejected")
    with pytest.raises(Conflict, match="version 1 is live"):
        start(store, 1)
    with pytest.raises(Conflict, match="version 3 was rejected by its gate"):
        start(store, 3)
    with pytest.raises(NotFound, match="no version 9"):
        start(store, 9)
    with pytest.raises(Conflict, match="the caller expected 2"):
        start(store, 2, expected_live=2)
    with pytest.raises(Conflict, match="nothing to stop"):
        stop(store)
    for share in (-0.1, 1.0, float("nan"), float("inf")):
        with pytest.raises(Refused, match="wanted: 0 or more and less than 1"):
            start(store, 2, share)
    assert states(store) == {1: "live", 2: "candidate", 3: "rejected"}
    assert store.read(versions.pointer_revision) == 1


def test_a_version_that_was_once_forced_past_its_gate_cannot_be_a_canary(store: Store) -> None:
    candidate(store, "a", state="rejected")
    promote(store, 2, forced=True)
    store.write(versions.rollback, actor="a", reason="r")
    with pytest.raises(Conflict, match="was rejected by its gate"):
        start(store, 2)


def test_there_is_one_canary_and_a_stale_page_stops_no_other(store: Store) -> None:
    candidate(store, "a")
    candidate(store, "b")
    start(store, 2)
    with pytest.raises(Conflict, match="version 2 is the canary"):
        start(store, 3)
    with pytest.raises(Conflict, match="the caller expected 3"):
        stop(store, expected_canary=3)
    assert canary_of(store) == (2, 0.1)


def test_of_many_who_start_a_canary_at_once_one_does(store: Store) -> None:
    for letter in "abcd":
        candidate(store, letter)
    outcomes: list[str] = []

    def click(version: int) -> None:
        try:
            start(store, version, expected_live=1)
            outcomes.append("started")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=click, args=(version,)) for version in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 3 + ["started"]
    assert sorted(states(store).values()).count("canary") == 1


@pytest.mark.parametrize(
    "change",
    ["canary_version = 2", "canary_version = 2, canary_share = 1.0", "canary_version = 1, canary_share = 0.5"],
)
def test_the_database_itself_holds_to_the_rules(store: Store, change: str) -> None:
    candidate(store, "a")
    with pytest.raises(Exception, match="refused the row"):
        store.write(lambda connection: connection.execute(text(f"UPDATE live_pointer SET {change}")))
