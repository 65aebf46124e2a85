"""Versions: one pointer, moved in one transaction, by somebody, for a reason; and never on a stale view."""

import threading

import pytest

from feedback_store import rounds, versions
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.records import PolicyVersion
from feedback_store.store import Store
from tests.store.conftest import BASE_MODEL


def candidate(store: Store, letter: str, **changes: object) -> PolicyVersion:
    values = {
        "base_model": BASE_MODEL,
        "adapter_sha256": letter * 64,
        "parent": 1,
        "method": "kto",
        "round_id": None,
        "gate_report": {"outcome": "pass"},
        "metrics": {"win_rate": 0.7},
    }
    return store.write(versions.add_candidate, **(values | changes))  # type: ignore[arg-type]


def promote(store: Store, version: int, **changes: object) -> object:
    return store.write(versions.promote, version, actor="admin", reason="because", **changes)  # type: ignore[arg-type]


def states(store: Store) -> dict[int, str]:
    return {version.version: version.state for version in store.read(versions.list_versions)}


def test_version_1_is_the_base_model_and_live(store: Store) -> None:
    again = store.write(versions.bootstrap, BASE_MODEL)
    assert store.read(versions.live_version) == again
    assert (again.version, again.state, again.base_model, again.adapter_sha256) == (1, "live", BASE_MODEL, None)
    (log,) = store.read(versions.deployments, 10)
    assert (log.action, log.version, log.from_version, log.forced) == ("bootstrap", 1, None, False)
    assert store.read(versions.pointer_revision) == 1


def test_another_base_model_is_refused(store: Store) -> None:
    with pytest.raises(Conflict, match="learns over the base model tiny-base, the server brings other"):
        store.write(versions.bootstrap, "other")


def test_before_the_first_start_nothing_is_live(store_url: str) -> None:
    with Store.open(store_url) as store:
        assert store.read(versions.pointer_revision) == 0
        with pytest.raises(NotFound, match="no version is live"):
            store.read(versions.live_version)
        with pytest.raises(NotFound, match="no version is live"):
            store.write(versions.promote, 1, actor="a", reason="r")


def test_a_candidate_comes_back_as_it_went_in_and_does_not_serve(store: Store) -> None:
    made = candidate(store, "a")
    assert store.read(versions.get_version, 2) == made
    assert (made.version, made.state, made.parent, made.method) == (2, "candidate", 1, "kto")
    assert (made.gate_report, made.metrics) == ({"outcome": "pass"}, {"win_rate": 0.7})
    assert store.read(versions.live_version).version == 1
    assert store.read(versions.pointer_revision) == 1


def test_a_number_that_is_not_finite_is_kept_as_unknown(store: Store) -> None:
    made = candidate(store, "a", metrics={"auc": float("nan"), "all": [1.5, float("inf")]}, gate_report={"x": {"y": 1}})
    assert made.metrics == {"auc": None, "all": [1.5, None]}
    assert made.gate_report == {"x": {"y": 1}}


def test_a_candidate_fits_the_base_model_or_is_refused(store: Store) -> None:
    for changes, field in (({"base_model": "other"}, "base_model"), ({"state": "live"}, "state")):
        with pytest.raises(Refused) as refused:
            candidate(store, "a", **changes)
        assert refused.value.field == field
    with pytest.raises(NotFound, match="no version 7"):
        candidate(store, "a", parent=7)
    assert candidate(store, "a").version == 2


def test_a_round_makes_one_version_however_often_it_is_resumed(store: Store) -> None:
    round_id = store.write(rounds.request_round, method="kto", requested_by="a", settings={}).round_id
    first = candidate(store, "a", round_id=round_id)
    assert candidate(store, "a", round_id=round_id) == first
    with pytest.raises(Conflict, match="has made version 2 already"):
        candidate(store, "b", round_id=round_id)
    assert candidate(store, "b").version == 3


def test_promoting_moves_states_pointer_and_log_together(store: Store) -> None:
    candidate(store, "a")
    moved = store.write(versions.promote, 2, actor="admin", reason="round 1 passed", expected_live=1)
    assert (moved.action, moved.version, moved.from_version) == ("promote", 2, 1)
    assert (moved.actor, moved.reason, moved.forced) == ("admin", "round 1 passed", False)
    assert moved.at is not None
    assert states(store) == {1: "retired", 2: "live"}
    assert store.read(versions.live_version).version == 2
    assert store.read(versions.pointer_revision) == 2
    assert store.read(versions.deployments, 1) == [moved]


def test_a_stale_page_moves_nothing(store: Store) -> None:
    candidate(store, "a")
    candidate(store, "b")
    promote(store, 2)
    for write in (
        lambda: promote(store, 3, expected_live=1),
        lambda: store.write(versions.rollback, actor="a", reason="r", expected_live=1),
        lambda: promote(store, 2),
    ):
        with pytest.raises(Conflict):
            write()
    assert states(store) == {1: "retired", 2: "live", 3: "candidate"}
    assert store.read(versions.pointer_revision) == 2


def test_of_many_who_saw_the_same_live_version_one_moves_it(store: Store) -> None:
    for letter in "abcdefgh":
        candidate(store, letter)
    outcomes: list[str] = []

    def click(version: int) -> None:
        try:
            promote(store, version, expected_live=1)
            outcomes.append("moved")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=click, args=(version,)) for version in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["moved"] + ["refused"] * 7
    assert sorted(states(store).values()).count("live") == 1


def test_a_version_its_gate_rejected_serves_only_when_forced_every_time(store: Store) -> None:
    candidate(store, "a", state="rejected")
    with pytest.raises(Conflict, match="version 2 was rejected by its gate"):
        promote(store, 2)
    assert states(store) == {1: "live", 2: "rejected"}
    moved = store.write(versions.promote, 2, actor="admin", reason="I looked", forced=True)
    assert moved.forced
    store.write(versions.rollback, actor="admin", reason="hm")
    with pytest.raises(Conflict, match="was rejected by its gate"):
        promote(store, 2)


def test_forcing_what_needs_no_force_is_not_logged_as_forced(store: Store) -> None:
    candidate(store, "a")
    assert not store.write(versions.promote, 2, actor="a", reason="r", forced=True).forced


def test_rolling_back_walks_back_through_what_was_live_and_never_forward(store: Store) -> None:
    candidate(store, "a")
    candidate(store, "b")
    promote(store, 2)
    promote(store, 3)
    back = [store.write(versions.rollback, actor="a", reason="r").version for _ in range(2)]
    assert back == [2, 1]
    with pytest.raises(Conflict, match="version 1 is the first"):
        store.write(versions.rollback, actor="a", reason="r")
    with pytest.raises(Conflict, match="version 1 is the first"):
        store.read(versions.rollback_target)  # as a page does, which may lock nothing
    promote(store, 3)
    assert store.write(versions.rollback, actor="a", reason="r").version == 1
    assert states(store) == {1: "live", 2: "retired", 3: "retired"}
    assert store.read(versions.pointer_revision) == 7
    actions = [move.action for move in store.read(versions.deployments, 10)]
    assert actions == ["rollback", "promote", "rollback", "rollback", "promote", "promote", "bootstrap"]


def test_unknown_versions_are_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no version 9"):
        store.read(versions.get_version, 9)
    with pytest.raises(NotFound, match="no version 9"):
        promote(store, 9)
