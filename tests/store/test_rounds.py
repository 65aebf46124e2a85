"""Rounds: the table of states, the lease, the fence, the frozen selection. Time is passed in."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from feedback_store import rounds
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.records import ROUND_ENDED, Round, RoundMetric, RoundState
from feedback_store.rounds import NEXT_STATES
from feedback_store.store import Store
from tests.store.conftest import Scene

NOON = datetime(2025, 1, 10, 12, 0, tzinfo=UTC)
STATES: tuple[RoundState, ...] = get_args(RoundState)
WAY: dict[RoundState, tuple[RoundState, ...]] = {
    "requested": (),
    "selecting": ("selecting",),
    "training": ("selecting", "training"),
    "gating": ("selecting", "training", "gating"),
    "published": ("selecting", "training", "gating", "published"),
    "rejected": ("selecting", "training", "gating", "rejected"),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
}


def request(store: Store, at: datetime = NOON) -> Round:
    return store.write(rounds.request_round, method="kto", requested_by="admin", settings={"beta": 0.1}, at=at)


def claim(store: Store, owner: str = "trainer-1", seconds_after_noon: float = 0, lease_s: float = 60) -> Round | None:
    return store.write(rounds.claim_round, owner, lease_s, at=NOON + timedelta(seconds=seconds_after_noon))


def claimed(store: Store, state: RoundState = "selecting") -> Round:
    """A round held by trainer-1 with fence 1 and brought to `state`."""
    round_id = request(store).round_id
    assert claim(store) is not None
    for step in WAY[state]:
        store.write(rounds.advance, round_id, 1, step)
    return store.read(rounds.get_round, round_id)


@pytest.mark.parametrize("before", STATES)
def test_a_round_goes_only_where_the_table_says(one_store: Store, before: RoundState) -> None:
    store = one_store
    for after in STATES:
        found = claimed(store, before)
        if after in NEXT_STATES[before]:
            moved = store.write(rounds.advance, found.round_id, found.fence, after)
            assert moved.state == after
            assert (moved.ended_at is not None) == (after in ROUND_ENDED)
            assert (moved.lease_owner is None) == (after in ROUND_ENDED)
        else:
            with pytest.raises(Conflict):
                store.write(rounds.advance, found.round_id, found.fence, after)
            assert store.read(rounds.get_round, found.round_id) == found
        if store.read(rounds.get_round, found.round_id).state not in ROUND_ENDED:
            store.write(rounds.cancel_round, found.round_id, "test")


def test_an_ended_round_goes_nowhere() -> None:
    assert {state for state in STATES if not NEXT_STATES[state]} == set(ROUND_ENDED)


def test_only_one_round_is_open_at_a_time(store: Store) -> None:
    first = request(store)
    with pytest.raises(Conflict, match=f"round {first.round_id} is open \\(requested\\)"):
        request(store)
    store.write(rounds.cancel_round, first.round_id, "anna")
    second = request(store)
    assert second.round_id > first.round_id
    assert [one.round_id for one in store.read(rounds.list_rounds, 10)] == [second.round_id, first.round_id]
    assert len(store.read(rounds.list_rounds, 1)) == 1


def test_a_claimed_round_is_nobody_elses_until_its_lease_runs_out(store: Store) -> None:
    assert claim(store) is None
    request(store)
    first = claim(store, "trainer-1", 0, lease_s=60)
    assert first is not None
    assert (first.lease_owner, first.fence, first.started_at) == ("trainer-1", 1, NOON)
    assert claim(store, "trainer-2", 59) is None
    assert claim(store, "trainer-2", 60) is None
    second = claim(store, "trainer-2", 61)
    assert second is not None
    assert (second.lease_owner, second.fence, second.started_at) == ("trainer-2", 2, NOON)


def test_a_heartbeat_keeps_the_lease(store: Store) -> None:
    found = claimed(store, "training")
    store.write(rounds.heartbeat, found.round_id, 1, 60, at=NOON + timedelta(seconds=50))
    assert claim(store, "trainer-2", 100) is None
    taken = claim(store, "trainer-2", 111)
    assert taken is not None and taken.state == "training"


def test_a_trainer_that_slept_past_its_lease_can_write_nothing_more(store: Store) -> None:
    found = claimed(store, "training")
    assert claim(store, "trainer-2", 61) is not None
    stale = (
        lambda: store.write(rounds.heartbeat, found.round_id, 1, 60),
        lambda: store.write(rounds.advance, found.round_id, 1, "gating"),
        lambda: store.write(rounds.freeze_selection, found.round_id, 1, [(1, "train")]),
    )
    for write in stale:
        with pytest.raises(Conflict, match="has fence 2, this write carries 1: another trainer"):
            write()
    now_held = store.read(rounds.get_round, found.round_id)
    assert (now_held.state, now_held.lease_owner) == ("training", "trainer-2")
    assert store.write(rounds.advance, found.round_id, 2, "gating").state == "gating"


def test_a_cancelled_round_ends_at_once_and_its_trainer_finds_out(store: Store) -> None:
    found = claimed(store, "training")
    ended = store.write(rounds.cancel_round, found.round_id, "anna", at=NOON)
    assert (ended.state, ended.reason, ended.ended_at) == ("cancelled", "cancelled by anna", NOON)
    with pytest.raises(Conflict, match=r"has ended \(cancelled: cancelled by anna\)"):
        store.write(rounds.heartbeat, found.round_id, 1, 60)
    with pytest.raises(Conflict, match="has ended"):
        store.write(rounds.cancel_round, found.round_id, "anna")
    assert claim(store, "trainer-2", 1000) is None


def test_a_round_keeps_what_its_steps_found(store: Store) -> None:
    found = claimed(store, "gating")
    report = {"outcome": "pass", "checks": [{"name": "kl", "value": 1.5}]}
    ended = store.write(
        rounds.advance,
        found.round_id,
        1,
        "published",
        reference_version=1,
        candidate_version=2,
        selection={"thumbs": 240},
        gate_report=report,
        reason="passed",
        at=NOON,
    )
    assert store.read(rounds.get_round, found.round_id) == ended
    assert (ended.method, ended.settings, ended.requested_at) == ("kto", {"beta": 0.1}, NOON)
    assert (ended.reference_version, ended.candidate_version, ended.selection) == (1, 2, {"thumbs": 240})
    assert (ended.gate_report, ended.reason, ended.ended_at) == (report, "passed", NOON)


def test_a_step_may_set_only_the_fields_of_a_round(store: Store) -> None:
    found = claimed(store)
    with pytest.raises(Refused, match="lease_until is no field that a round may set") as refused:
        store.write(rounds.advance, found.round_id, 1, "training", lease_until=NOON)
    assert refused.value.field == "lease_until"


def test_unknown_rounds_are_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no round 9"):
        store.read(rounds.get_round, 9)
    for write in (rounds.cancel_round, rounds.heartbeat, rounds.advance):
        arguments = {rounds.cancel_round: ("a",), rounds.heartbeat: (1, 60.0), rounds.advance: (1, "failed")}[write]
        with pytest.raises(NotFound, match="no round 9"):
            store.write(write, 9, *arguments)  # type: ignore[arg-type]


def test_curves_are_kept_and_a_repeated_step_takes_the_new_value(store: Store) -> None:
    round_id = request(store).round_id
    store.write(rounds.add_metrics, [])
    points = [RoundMetric(round_id, step, name, step + 0.5, NOON) for step in (2, 1) for name in ("loss", "kl_nats")]
    store.write(rounds.add_metrics, points)
    store.write(rounds.add_metrics, [RoundMetric(round_id, 2, "loss", 9.0, NOON)])
    read = [(point.step, point.name, point.value) for point in store.read(rounds.metrics, round_id)]
    assert read == [(1, "kl_nats", 1.5), (1, "loss", 1.5), (2, "kl_nats", 2.5), (2, "loss", 9.0)]
    assert [point.step for point in store.read(rounds.metrics, round_id, after_step=1)] == [2, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_curve_holds_finite_numbers_only(store: Store, value: float) -> None:
    round_id = request(store).round_id
    with pytest.raises(Refused, match=r"loss is (nan|inf) at step 3"):
        store.write(rounds.add_metrics, [RoundMetric(round_id, 3, "loss", value)])
    with pytest.raises(NotFound, match="no round 99"):
        store.write(rounds.add_metrics, [RoundMetric(99, 3, "loss", 1.0)])


def test_a_selection_is_frozen_once_and_for_good(scene: Scene) -> None:
    store = scene.store
    scene.rater("anna")
    scene.reply("one")
    ids = [scene.act("thumb", "anna", reply_id="one", thumb="up").feedback_id for _ in range(3)]
    found = claimed(store)
    assert store.read(rounds.selection, found.round_id) == []
    chosen = [(ids[2], "held_out"), (ids[0], "train")]
    for _ in range(2):  # a resumed round freezes the same again
        store.write(rounds.freeze_selection, found.round_id, 1, chosen)  # type: ignore[arg-type]
        assert store.read(rounds.selection, found.round_id) == [(ids[0], "train"), (ids[2], "held_out")]
    with pytest.raises(Conflict, match="has frozen another selection"):
        store.write(rounds.freeze_selection, found.round_id, 1, [(ids[0], "train")])


def test_a_selection_names_feedback_that_exists(store: Store) -> None:
    found = claimed(store)
    with pytest.raises(NotFound, match="no feedback 4711"):
        store.write(rounds.freeze_selection, found.round_id, 1, [(4711, "train")])
    assert store.read(rounds.selection, found.round_id) == []


def test_attempts_count_claims_since_the_round_last_got_further(one_store: Store) -> None:
    store = one_store
    round_id = request(store).round_id
    for turn in range(3):
        found = claim(store, seconds_after_noon=100 * turn)
        assert found is not None
        assert found.attempts == turn + 1
    store.write(rounds.advance, round_id, 3, "selecting")
    assert store.read(rounds.get_round, round_id).attempts == 0
    assert claim(store, seconds_after_noon=400) is not None
    store.write(rounds.heartbeat, round_id, 4, 60, at=NOON + timedelta(seconds=400))
    assert store.read(rounds.get_round, round_id).attempts == 1
    store.write(rounds.heartbeat, round_id, 4, 60, progressed=True, at=NOON + timedelta(seconds=400))
    assert store.read(rounds.get_round, round_id).attempts == 0


def test_a_trainer_that_is_stopped_gives_its_lease_up_and_counts_no_attempt(store: Store) -> None:
    round_id = request(store).round_id
    assert claim(store) is not None
    store.write(rounds.release_round, round_id, 1)
    found = claim(store, "trainer-2")
    assert found is not None
    assert (found.fence, found.attempts, found.lease_owner) == (2, 1, "trainer-2")
    with pytest.raises(Conflict, match="fence 2"):
        store.write(rounds.release_round, round_id, 1)


def test_a_lease_taken_before_the_clock_was_set_back_holds_nobody_off(store: Store) -> None:
    request(store)
    tomorrow = 86_400.0
    assert claim(store, seconds_after_noon=tomorrow) is not None
    found = claim(store, "trainer-2", seconds_after_noon=1)
    assert found is not None
    assert found.fence == 2
    assert claim(store, "trainer-3", seconds_after_noon=2) is None


def test_points_of_a_trainer_that_lost_its_round_are_refused(store: Store) -> None:
    round_id = request(store).round_id
    assert claim(store) is not None
    store.write(rounds.add_metrics, [RoundMetric(round_id, 1, "loss", 0.5)], fence=1)
    assert claim(store, "trainer-2", seconds_after_noon=100) is not None
    with pytest.raises(Conflict, match="trainer-2"):
        store.write(rounds.add_metrics, [RoundMetric(round_id, 2, "loss", 0.4)], fence=1)
    assert [point.step for point in store.read(rounds.metrics, round_id)] == [1]
