"""Annotation: who gets which task, what is kept of each step, what becomes of a finished label."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from feedback_store import annotation_labels as labels
from feedback_store import annotation_queues as queues
from feedback_store import feedback, inbox, raters, review
from feedback_store.annotation_labels import Assignment
from feedback_store.annotation_progress import preferences, progress
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.raters import staff_rater_id
from feedback_store.review import Target
from feedback_store.store import Store
from tests.store.conftest import Scene

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def asked(scene: Scene) -> Scene:
    """Three tasks: two pairs and a comparison of four."""
    scene.rater("anna", "ben")
    for number, names in enumerate((("a", "b"), ("c", "d"), ("e", "f", "g", "h"))):
        scene.comparison(f"task-{number}", names)
    priorities = {"task-0": 3.0, "task-1": 2.0, "task-2": 1.0}
    scene.store.write(
        queues.ask_for_labels, "uncertain", priorities, wanted=2, purpose="until PPO may run", requested_by="trainer"
    )
    return scene


def next_for(store: Store, annotator: str, **fields: Any) -> Assignment:
    found = store.write(labels.next_assignment, annotator, **fields)
    assert found is not None
    return found


def rank(store: Store, annotator: str, *order: str, verdict: labels.LabelVerdict | None = None, **fields: Any) -> int:
    """Rank the annotator's next task; a number counts in the order of names. Returns its label."""
    given = next_for(store, annotator).label
    saved = store.write(labels.save, annotator, given.label_id, given.revision, ranked=order, verdict=verdict, **fields)
    store.write(labels.finish, annotator, given.label_id, saved.revision)
    return given.label_id


def given_feedback(store: Store) -> list[tuple[str, str, object]]:
    return [
        (entry.act.kind, str(entry.act.comparison_id), entry.act.verdict or entry.act.ranking)
        for entry in store.read(feedback.effective_feedback)
    ]


def test_the_most_urgent_task_comes_first_and_is_the_same_when_asked_again(asked: Scene) -> None:
    first = next_for(asked.store, "user:ada")
    assert (first.task.comparison_id, first.label.state, first.label.ranked) == ("task-0", "open", ())
    assert next_for(asked.store, "user:ada").label == first.label
    assert sorted(reply.reply_id for reply in first.replies) == ["a", "b"]
    assert tuple(reply.reply_id for reply in first.replies) == first.label.shown


def test_the_order_shown_differs_between_annotators_and_is_kept(asked: Scene) -> None:
    asked.store.write(queues.add_tasks, "random", {"task-2": 9.0}, created_by="x")
    shown = set()
    for number in range(12):
        given = asked.store.write(labels._assign, f"user:{number}", asked.store.read(queues.get_task, 3), NOON)
        assert given is not None
        shown.add(given.label.shown)
        assert asked.store.read(labels.assignment, f"user:{number}", given.label.label_id).label.shown == (
            given.label.shown
        )
    assert len(shown) > 3


def test_a_task_goes_to_as_many_annotators_as_it_wants_and_no_more(asked: Scene) -> None:
    store = asked.store
    for name in ("user:ada", "user:bob"):
        assert next_for(store, name).task.comparison_id == "task-0"
    assert next_for(store, "user:cyd").task.comparison_id == "task-1"
    late = datetime.now(UTC) + labels.LEASE + timedelta(minutes=1)
    assert next_for(store, "user:dan", at=late).task.comparison_id == "task-0"  # ada and bob went home


def test_every_step_is_saved_and_somebody_goes_on_where_they_were_on_another_device(asked: Scene) -> None:
    store = asked.store
    given = next_for(store, "user:ada").label
    store.write(labels.save, "user:ada", given.label_id, 0, ranked=["b"], reasons=["brief", "clear"], note="so far")
    back = next_for(store, "user:ada").label
    assert (back.ranked, back.reasons, back.note, back.revision) == (("b",), ("clear", "brief"), "so far", 1)
    with pytest.raises(Conflict, match="saved on another device"):
        store.write(labels.save, "user:ada", given.label_id, 0, ranked=["a"])
    assert next_for(store, "user:ada").label.ranked == ("b",)


@pytest.mark.parametrize(
    ("order", "verdict", "kind", "value"),
    [
        (("b", "a"), None, "verdict", "b"),
        (("b",), None, "verdict", "b"),  # the other one's place is clear
        ((), "tie", "verdict", "tie"),
        (("a",), "both_bad", "verdict", "both_bad"),
    ],
)
def test_a_finished_pair_is_a_verdict_of_the_annotator(
    asked: Scene, order: tuple[str, ...], verdict: labels.LabelVerdict | None, kind: str, value: str
) -> None:
    rank(asked.store, "user:ada", *order, verdict=verdict, reasons=["kind"], note="n")
    (entry,) = asked.store.read(feedback.effective_feedback)
    act = entry.act
    assert (act.kind, act.verdict, act.channel, act.reason) == (kind, value, "annotate", "kind; n")
    assert act.rater_id == staff_rater_id("user:ada")


def test_four_replies_are_ranked_and_a_change_of_mind_supersedes(asked: Scene) -> None:
    store = asked.store
    for order in (("a",), ("c",)):
        rank(store, "user:ada", *order)
    label_id = rank(store, "user:ada", "g", "e", "h")
    assert given_feedback(store)[-1] == ("ranking", "task-2", ("g", "e", "h", "f"))
    again = store.write(labels.reopen, "user:ada", label_id)
    assert len(given_feedback(store)) == 3  # it holds until it is finished anew
    saved = store.write(labels.save, "user:ada", label_id, again.revision, verdict="both_bad")
    store.write(labels.finish, "user:ada", label_id, saved.revision)
    assert given_feedback(store)[-1] == ("verdict", "task-2", "both_bad")
    assert [kind for kind, name, _ in given_feedback(store) if name == "task-2"] == ["verdict"]
    last = store.read(labels.last_label, "user:ada")
    assert last is not None and last.label_id == label_id


def test_what_is_not_complete_is_not_finished_and_what_is_done_is_not_saved(asked: Scene) -> None:
    store = asked.store
    given = next_for(store, "user:ada").label
    with pytest.raises(Refused, match="ranked holds 0 of 2"):
        store.write(labels.finish, "user:ada", given.label_id, 0)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"ranked": ["a", "a"]}, "ranked"),
        ({"ranked": ["z"]}, "ranked"),
        ({"verdict": "x"}, "verdict"),
        ({"reasons": ["nice"]}, "reasons"),
    ]
    for fields, field in wrong:
        with pytest.raises(Refused) as refused:
            store.write(labels.save, "user:ada", given.label_id, 0, **fields)
        assert refused.value.field == field
    with pytest.raises(NotFound):
        store.write(labels.save, "user:bob", given.label_id, 0)
    label_id = rank(store, "user:ada", "a")
    with pytest.raises(Conflict, match="is done already"):
        store.write(labels.save, "user:ada", label_id, 2)


def test_a_skipped_task_is_left_to_others(asked: Scene) -> None:
    given = next_for(asked.store, "user:ada").label
    asked.store.write(labels.skip, "user:ada", given.label_id, 0)
    assert next_for(asked.store, "user:ada").task.comparison_id == "task-1"
    assert next_for(asked.store, "user:bob").task.comparison_id == "task-0"


def test_what_may_not_be_shown_is_never_asked_about(asked: Scene) -> None:
    store = asked.store
    asked.rater("vera")
    asked.comparison("hers", ("p", "q"), rater_id="vera")
    asked.comparison("silent", ("r", "s"), text=None, messages=None)
    asked.comparison("many", tuple("klmno"))
    store.write(review.act, "exclude", [Target("a", 0)], actor="user:olga")
    store.write(raters.set_consent, "vera", "web", False, 1)
    assert set(store.read(queues.showable, ["task-0", "task-1", "hers", "silent", "many"])) == {"task-1"}
    assert next_for(store, "user:ada").task.comparison_id == "task-1"


def test_queues_are_filled_with_what_fits_them(scene: Scene) -> None:
    store = scene.store
    scene.rater("anna", "ben")
    for number in range(6):
        tokens = {"completion_tokens": 10}
        scene.reply(f"{number}-a", comparison_id=f"c-{number}", shown_position=0, logprob_nats=-10.0, **tokens)
        scene.reply(f"{number}-b", comparison_id=f"c-{number}", shown_position=1, logprob_nats=-10.0 - number, **tokens)
        add_comparison(scene, f"c-{number}", (f"{number}-a", f"{number}-b"), "candidates" if number > 3 else "web")
    scene.act("verdict", "anna", comparison_id="c-0", verdict="0-a")
    scene.act("verdict", "ben", comparison_id="c-0", verdict="0-b")
    while store.write(inbox.catch_up):
        pass
    added = [store.write(queues.fill, queue, 2, created_by="user:olga") for queue in queues.QUEUES]
    assert added == [2, 1, 2, 1]  # by order: uncertain, disputed, candidates, random
    found = {queue: names_of(store, queue) for queue in queues.QUEUES}
    assert found["uncertain"] == ["c-1", "c-2"] and found["disputed"] == ["c-0"]
    assert found["random"] == ["c-3"] and sorted(found["candidates"]) == ["c-4", "c-5"]
    assert store.write(queues.fill, "random", 5, created_by="user:olga") == 0


def names_of(store: Store, queue: queues.Queue) -> list[str]:
    names = []
    annotator = f"user:{queue}"
    while (given := store.write(labels.next_assignment, annotator, queue)) is not None:
        names.append(given.task.comparison_id)
        store.write(labels.skip, annotator, given.label.label_id, given.label.revision)
    return names


def add_comparison(scene: Scene, name: str, reply_ids: tuple[str, ...], channel: str) -> None:
    from feedback_store.records import Comparison
    from feedback_store.replies import add_comparison as add

    scene.store.write(add, Comparison(name, reply_ids, None, None, channel))


def test_gold_items_are_mixed_in_measure_annotators_and_never_become_feedback(asked: Scene) -> None:
    store = asked.store
    for number in range(6):
        asked.comparison(f"more-{number}", (f"{number}-a", f"{number}-b"))
    store.write(queues.add_tasks, "random", {f"more-{number}": 0.0 for number in range(6)}, created_by="x")
    store.write(queues.make_gold, 9, ["5-b", "5-a"])
    for _ in range(4):
        rank(store, "user:ada", *next_for(store, "user:ada").label.shown)
    gold = next_for(store, "user:ada")
    assert gold.task.gold == ("5-b", "5-a")
    rank(store, "user:ada", "5-a")
    assert len(given_feedback(store)) == 4
    (ada,) = store.read(progress, "user:ada").annotators
    assert (ada.done, ada.gold_pairs, ada.gold_right) == (5, 1, 0)


def test_progress_says_what_is_left_what_requests_want_and_how_far_annotators_agree(asked: Scene) -> None:
    store = asked.store
    for name, first in (("user:ada", "a"), ("user:bob", "b")):
        rank(store, name, first)
        rank(store, name, "c")
    rank(store, "user:ada", "e", "f", "g", "h")
    rank(store, "user:bob", "e", "f", "h", "g")
    found = store.read(progress, "user:ada")
    (uncertain, *_) = found.queues
    assert (uncertain.tasks, uncertain.labelled, uncertain.for_me) == (3, 3, 0)
    (request,) = found.requests
    assert (request.done, request.request.wanted, request.request.purpose) == (3, 2, "until PPO may run")
    assert request.fulfilled
    # Two of eight pairs apart. In both directions 32 values, half of them each: D_e = 2·16·16 / (32·31) = 16/31.
    assert found.agreement.units == 8 and found.agreement.alpha == pytest.approx(1 - (2 / 8) / (16 / 31))
    assert [one.done for one in found.annotators] == [3, 3]


def test_a_label_reads_as_one_preference_a_pair_whichever_order_was_shown() -> None:
    assert preferences(("b", "a"), ("b", "a"), None) == {("a", "b"): -1.0}
    assert preferences(("a", "b"), ("b", "a"), None) == {("a", "b"): -1.0}
    assert preferences(("a", "b", "c"), (), "tie") == {("a", "b"): 0.0, ("a", "c"): 0.0, ("b", "c"): 0.0}
    assert preferences(("a", "b", "c"), ("c", "a"), None) == {("a", "c"): -1.0}


def test_a_request_that_cannot_be_fulfilled_is_refused(asked: Scene) -> None:
    store = asked.store
    ask = {"purpose": "p", "requested_by": "x"}
    with pytest.raises(Refused, match="wanted is 2 of 1"):
        store.write(queues.ask_for_labels, "random", {"task-0": 0.0}, wanted=2, **ask)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        store.write(queues.ask_for_labels, "random", {"none": 0.0}, wanted=1, **ask)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="queue is 'best'"):
        store.write(queues.fill, "best", 1, created_by="x")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="gold holds 1"):
        store.write(queues.make_gold, 1, ["a"])
