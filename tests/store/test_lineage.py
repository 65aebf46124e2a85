"""From a version to its feedback and back, and what flags it; people's blind look at a candidate, and their veto."""

from dataclasses import replace

import pytest

from feedback_store import feedback, lineage, quarantines, rater_data, raters, rounds, side_by_sides, versions
from feedback_store.connection import Connection
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.records import NewFeedback
from feedback_store.replies import add_reply
from feedback_store.store import Store
from tests.store.conftest import BASE_MODEL
from tests.trainer.parts import make_reply

EXAMPLES = [{"prompt_reply_id": f"r{n}", "prompt": None, "before": f"old {n}", "after": f"new {n}"} for n in range(30)]


def grow(connection: Connection, number: int, trained: list[int], held: list[int], parent: int) -> int:
    """A round over these acts, and its version."""
    asked = rounds.request_round(connection, method="kto", requested_by="a", settings={})
    rounds.claim_round(connection, "t", 60)
    chosen = [(one, "train") for one in trained] + [(one, "held_out") for one in held]
    rounds.freeze_selection(connection, asked.round_id, 1, chosen)  # type: ignore[arg-type]
    rounds.advance(connection, asked.round_id, 1, "failed")
    return versions.add_candidate(
        connection,
        base_model=BASE_MODEL,
        adapter_sha256=str(number) * 64,
        parent=parent,
        method="kto",
        round_id=asked.round_id,
        gate_report={"examples": EXAMPLES},
        metrics={},
    ).version


def family(connection: Connection) -> list[int]:
    """Six acts; version 2 of the first three, 3 from it of the fourth, 4 beside it of the fifth. Returns their ids."""
    versions.bootstrap(connection, BASE_MODEL)
    raters.ensure_rater(connection, "anna", "web")
    raters.ensure_rater(connection, "ben", "web")
    ids = []
    for n in range(6):
        add_reply(connection, make_reply(f"r{n}", prompt=f"question {n}"))
        act = NewFeedback("thumb", "ben" if n == 3 else "anna", "web", reply_id=f"r{n}", thumb="up")
        ids.append(feedback.add_feedback(connection, act).feedback_id)
    grow(connection, 2, ids[:3], ids[5:], 1)
    grow(connection, 3, ids[3:4], [], 2)
    grow(connection, 4, ids[4:5], [], 1)
    return ids


def test_a_version_names_its_feedback_and_its_parents_and_feedback_names_its_versions(store: Store) -> None:
    ids = store.write(family)
    found = store.read(lineage.lineage, 3)
    assert [(one.version, one.feedback_ids) for one in found.line] == [(3, (ids[3],)), (2, tuple(ids[:3])), (1, ())]
    assert found.flags == ()
    assert store.read(lineage.versions_of_feedback, ids[:1]) == [2, 3]
    assert store.read(lineage.versions_of_feedback, ids[4:5]) == [4]
    assert store.read(lineage.versions_of_feedback, ids[5:]) == [], "held out, never learnt from"
    with pytest.raises(NotFound):
        store.read(lineage.lineage, 9)


def test_a_version_trained_on_quarantined_feedback_is_flagged_until_it_is_released(store: Store) -> None:
    ids = store.write(family)
    held = store.write(quarantines.begin_quarantine, "ben", signal="by_hand", reason="?", begun_by="olga")
    assert store.read(lineage.flagged_versions) == {3: ("trained on 1 acts that are in quarantine now",)}
    assert store.read(lineage.lineage, 3).quarantined == (ids[3],)
    store.write(quarantines.decide_quarantine, held.quarantine_id, "released", actor="olga")
    assert store.read(lineage.flagged_versions) == {}


def test_a_version_trained_on_erased_feedback_is_flagged_and_the_ids_are_gone(store: Store) -> None:
    ids = store.write(family)
    assert store.write(lineage.forget_feedback, ids[:2]) == [2, 3]
    assert store.write(lineage.forget_feedback, ids[:2]) == []
    found = store.read(lineage.lineage, 3)
    assert (found.erased, found.line[1].feedback_ids) == (2, (ids[2],))
    assert set(store.read(lineage.flagged_versions)) == {2, 3}


def test_erasing_a_rater_flags_what_learnt_from_them_and_takes_their_quarantine_along(store: Store) -> None:
    store.write(family)
    store.write(quarantines.begin_quarantine, "ben", signal="by_hand", reason="?", begun_by="olga")
    erased = store.write(rater_data.erase_rater, "ben")
    assert (erased.feedback, erased.affected_versions) == (1, [3])
    assert store.read(lineage.flagged_versions) == {3: ("trained on 1 acts that were erased since",)}
    assert store.read(quarantines.list_quarantines) == []


def test_held_out_feedback_that_is_erased_flags_nothing(store: Store) -> None:
    ids = store.write(family)
    assert store.write(lineage.forget_feedback, ids[5:]) == []
    assert store.read(lineage.flagged_versions) == {}


def test_sides_are_blind_mixed_and_stay_for_a_viewer(store: Store) -> None:
    store.write(family)
    seen = store.read(side_by_sides.side_by_sides, 2, "viewer-1")
    assert seen == store.read(side_by_sides.side_by_sides, 2, "viewer-1")
    left_new = [one.left.startswith("new") for one in seen]
    assert 5 < sum(left_new) < 25
    assert [one.left for one in store.read(side_by_sides.side_by_sides, 2, "viewer-2")] != [one.left for one in seen]
    assert seen[0].prompt == "question 0"
    assert seen[10].prompt is None, "the store keeps no such reply"
    store.write(side_by_sides.vote, 2, 3, "viewer-1", "right")
    assert store.read(side_by_sides.side_by_sides, 2, "viewer-1")[3].voted == "right"
    store.write(side_by_sides.vote, 2, 3, "viewer-1", "tie")
    result = store.read(side_by_sides.side_by_side_result, 2)
    assert (result.ties, result.after + result.before, result.win_rate, result.viewers) == (1, 0, None, 1)
    with pytest.raises(Refused):
        store.write(side_by_sides.vote, 2, 3, "viewer-1", "best")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        store.write(side_by_sides.vote, 2, 30, "viewer-1", "left")


def judge_all(store: Store, viewer: str, word: str, count: int) -> None:
    for one in store.read(side_by_sides.side_by_sides, 2, viewer)[:count]:
        side = "left" if one.left.startswith(word) else "right"
        store.write(side_by_sides.vote, 2, one.example, viewer, side)  # type: ignore[arg-type]


def test_a_version_that_people_clearly_like_less_is_not_promoted_however_green_its_gate(store: Store) -> None:
    store.write(family)
    judge_all(store, "viewer-1", "old", 19)
    assert store.read(side_by_sides.why_blocked, 2) is None, "too few votes block nothing"
    judge_all(store, "viewer-1", "old", 20)
    result = store.read(side_by_sides.side_by_side_result, 2)
    assert (result.before, result.after, result.win_rate) == (20, 0, 0.0)
    with pytest.raises(Conflict, match="liked version 2 better in 0 of 20"):
        store.write(versions.promote, 2, actor="trainer", reason="r")
    judge_all(store, "viewer-2", "new", 30)
    assert store.read(side_by_sides.why_blocked, 2) is None
    store.write(versions.promote, 2, actor="trainer", reason="r")


def test_a_veto_keeps_a_version_from_serving_until_it_is_lifted_or_forced(store: Store) -> None:
    store.write(family)
    store.write(side_by_sides.veto, 2, actor="olga", reason="it is rude")
    for move in (versions.promote, versions.start_canary):
        share = (0.1,) if move is versions.start_canary else ()
        with pytest.raises(Conflict, match="vetoed by olga: it is rude"):
            store.write(move, 2, *share, actor="trainer", reason="r")  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="vetoed already"):
        store.write(side_by_sides.veto, 2, actor="olga", reason="again")
    forced = store.write(versions.promote, 2, actor="olga", reason="r", forced=True)
    assert forced.forced
    assert replace(forced, forced=False) != forced
    store.write(side_by_sides.lift_veto, 2)
    with pytest.raises(Conflict, match="was not vetoed"):
        store.write(side_by_sides.lift_veto, 2)
