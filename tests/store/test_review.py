"""Reviewing: what operators do holds, is kept, can be undone, and never overwrites what somebody else did meanwhile."""

import pytest

from feedback_store import feedback, inbox, inbox_search, review
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.inbox_search import InboxFilter
from feedback_store.raters import staff_rater_id
from feedback_store.review import ReviewConflict, Target
from feedback_store.store import Store
from tests.store.conftest import Scene


@pytest.fixture
def rated(scene: Scene) -> Scene:
    scene.rater("anna", "ben")
    scene.reply("one", "two", "three")
    scene.comparison("pair", ("x", "y"))
    for name in ("one", "two", "three"):
        scene.act("thumb", "anna", reply_id=name, thumb="down")
    scene.act("correction", "ben", reply_id="one", correction="Better.")
    scene.act("verdict", "ben", comparison_id="pair", verdict="x")
    while scene.store.write(inbox.catch_up):
        pass
    return scene


def trained_on(store: Store) -> list[tuple[str, str]]:
    """What a selection would read, as (kind, target)."""
    acts = [entry.act for entry in store.read(feedback.effective_feedback)]
    return [(act.kind, str(act.reply_id or act.comparison_id)) for act in acts]


ALL = [("thumb", "one"), ("thumb", "two"), ("thumb", "three"), ("verdict", "pair")]


def test_excluded_feedback_is_never_selected_until_it_is_restored(rated: Scene) -> None:
    store = rated.store
    assert trained_on(store) == ALL  # the correction waits for somebody to approve it
    store.write(review.act, "exclude", [Target("one", 0), Target("x", 0)], actor="olga", reason="off topic")
    assert trained_on(store) == ALL[1:3]
    store.write(review.act, "restore", [Target("x", store_revision(store, "x"))], actor="olga")
    assert trained_on(store) == ALL[1:]


def store_revision(store: Store, reply_id: str) -> int:
    (item,) = [one for one in store.read(inbox_search.search, InboxFilter()).items if one.reply_id == reply_id]
    return item.revision


def test_an_excluded_act_does_not_bring_the_one_before_it_back(rated: Scene) -> None:
    later = rated.act("thumb", "anna", reply_id="one", thumb="up").feedback_id
    rated.store.write(review.act, "exclude", [Target("one", 0, feedback_id=later)], actor="olga")
    assert trained_on(rated.store) == ALL[1:]


def test_corrections_are_selected_once_approved_and_no_longer_when_rejected(rated: Scene) -> None:
    store = rated.store
    number = 4
    (done,) = store.write(review.act, "approve", [Target("one", 0, feedback_id=number)], actor="olga")
    assert ("correction", "one") in trained_on(store)
    store.write(review.act, "reject", [Target("one", done.act_id, feedback_id=number)], actor="olga", reason="wrong")
    assert ("correction", "one") not in trained_on(store)


def test_an_operators_own_correction_is_approved_at_once_and_undoing_rejects_it(rated: Scene) -> None:
    store = rated.store
    done = store.write(review.correct, Target("two", 0), "Well said.", actor="olga")
    (said,) = [entry for entry in store.read(feedback.effective_feedback) if entry.act.kind == "correction"]
    assert (said.act.correction, said.act.channel) == ("Well said.", "review")
    store.write(review.undo, done.batch_id, actor="olga")
    assert ("correction", "two") not in trained_on(store)
    (item,) = store.read(inbox_search.search, InboxFilter(kind="correction", rater=staff_rater_id("olga"))).items
    assert (item.corrections, item.pending) == (1, 0)


def test_the_late_one_of_two_operators_is_told_who_was_first_and_overwrites_nothing(rated: Scene) -> None:
    store = rated.store
    store.write(review.act, "exclude", [Target("one", 0)], actor="olga", reason="off topic")
    with pytest.raises(ReviewConflict, match=r"olga: exclude on one.*nothing was changed") as conflict:
        store.write(review.act, "flag", [Target("two", 0), Target("one", 0)], actor="pete")
    assert [(act.actor, act.action, act.reason) for act in conflict.value.acts] == [("olga", "exclude", "off topic")]
    assert store.read(inbox_search.count, InboxFilter(flagged=True)).total == 0
    with pytest.raises(ReviewConflict):
        store.write(review.correct, Target("one", 0), "Mine.", actor="pete")


def test_a_bulk_act_is_undone_as_one_and_the_undoing_can_be_undone(rated: Scene) -> None:
    store = rated.store
    done = store.write(review.act, "exclude", [Target(name, 0) for name in ("one", "two", "three")], actor="olga")
    assert len({act.batch_id for act in done}) == 1 and trained_on(store) == [("verdict", "pair")]
    undone = store.write(review.undo, done[0].batch_id, actor="pete", reason="they are fine")
    assert trained_on(store) == ALL and {act.undoes for act in undone} == {act.act_id for act in done}
    with pytest.raises(Conflict, match="undone already"):
        store.write(review.undo, done[0].batch_id, actor="olga")
    store.write(review.undo, undone[0].batch_id, actor="pete")
    assert trained_on(store) == [("verdict", "pair")]
    assert all(act.undone for act in store.read(review.batch, done[0].batch_id))


def test_what_somebody_changed_since_is_not_undone(rated: Scene) -> None:
    store = rated.store
    (first,) = store.write(review.act, "flag", [Target("one", 0)], actor="olga")
    store.write(review.act, "exclude", [Target("one", first.act_id)], actor="pete")
    with pytest.raises(ReviewConflict, match="pete: exclude"):
        store.write(review.undo, first.batch_id, actor="olga")


def test_an_act_that_changes_nothing_adds_nothing(rated: Scene) -> None:
    assert rated.store.write(review.act, "restore", [Target("one", 0)], actor="olga") == []
    assert rated.store.read(review.acts_on, "one") == []


def test_every_act_is_kept_with_who_why_and_when(rated: Scene) -> None:
    store = rated.store
    (flagged,) = store.write(review.act, "flag", [Target("one", 0)], actor="olga", reason="look at this")
    noted = store.write(review.note, "one", "  seen twice today ", actor="pete")
    acts = store.read(review.acts_on, "one")
    assert [(act.actor, act.action, act.reason, act.text) for act in acts] == [
        ("olga", "flag", "look at this", None),
        ("pete", "note", "", "seen twice today"),
    ]
    assert acts[0] == flagged and (flagged.before, flagged.after) == ({"flagged": False}, {"flagged": True})
    assert store.read(review.recent_acts, 1) == [noted]
    assert store.read(review.recent_acts, 5, before=noted.act_id) == [flagged]
    store.write(review.undo, noted.batch_id, actor="pete")  # a note hinders nobody, and nobody hinders it
    store.write(review.undo, flagged.batch_id, actor="olga")


@pytest.mark.parametrize(
    ("action", "target", "error"),
    [
        ("flag", Target("none", 0), NotFound),
        ("exclude", Target("one", 0, feedback_id=999), NotFound),
        ("approve", Target("one", 0), Refused),
        ("approve", Target("one", 0, feedback_id=1), Refused),
        ("flag", Target("one", 0, feedback_id=1), Refused),
        ("undo", Target("one", 0), Refused),
    ],
)
def test_an_act_that_does_not_fit_its_target_is_refused(
    rated: Scene, action: review.Action, target: Target, error: type[Exception]
) -> None:
    with pytest.raises(error):
        rated.store.write(review.act, action, [target], actor="olga")


def test_limits_on_what_an_operator_writes(rated: Scene) -> None:
    store = rated.store
    with pytest.raises(Refused, match="targets; wanted"):
        store.write(review.act, "flag", [], actor="olga")
    with pytest.raises(Refused, match="note has 0 characters"):
        store.write(review.note, "one", "   ", actor="olga")
    with pytest.raises(Refused, match="correction has 0 characters"):
        store.write(review.correct, Target("one", 0), "", actor="olga")
    with pytest.raises(NotFound):
        store.write(review.undo, "no-such-batch", actor="olga")
