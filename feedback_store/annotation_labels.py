"""What annotators do: take the next task, rank, be saved at every step, finish, change their mind.

    open ──finish──► done ──reopen──► open        open ──skip──► skipped

An annotator sees a task's replies in an order of their own, drawn once and kept (`shown`), and never their versions.
Every step is saved with the revision it saw: a second device that is behind is told so (Conflict), and whoever comes
back, there or here, goes on where they were. A task that somebody opened is theirs for LEASE after its last step; then
it is offered to others as well.

A finished label becomes feedback like any rater's, of channel "annotate": two replies a verdict, more a ranking, "tie"
and "both bad" a verdict. A label finished anew gives a later act, which supersedes. A gold item gives none.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, and_, func, insert, or_, select, update

from feedback_store.annotation_queues import QUEUES, Queue, Task, get_task, showable, task_of_row
from feedback_store.checks import check_text
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.feedback import add_feedback
from feedback_store.inbox import lock_inbox
from feedback_store.raters import ensure_rater, staff_rater_id
from feedback_store.records import NewFeedback, Reply
from feedback_store.review import Target, act
from feedback_store.review_schema import annotation_labels, annotation_tasks, feedback_reviews
from feedback_store.schema import feedback, now

ANNOTATE_CHANNEL = "annotate"
LEASE = timedelta(minutes=30)
GOLD_EVERY = 8
"""One label in so many is a gold item, while there are any."""
MOST_NOTE_CHARACTERS = 2_000

LabelState = Literal["open", "done", "skipped"]
LabelVerdict = Literal["tie", "both_bad"]
Reason = Literal["correct", "clear", "complete", "brief", "kind", "safe", "on_topic"]
REASONS: tuple[Reason, ...] = ("correct", "clear", "complete", "brief", "kind", "safe", "on_topic")
"""What made the best one better."""


@dataclass(frozen=True, slots=True)
class Label:
    """An annotator's work on a task. `ranked`: reply ids from the best, as far as they got."""

    label_id: int
    task_id: int
    annotator: str
    state: LabelState
    shown: tuple[str, ...]
    ranked: tuple[str, ...]
    verdict: LabelVerdict | None
    reasons: tuple[str, ...]
    note: str
    revision: int
    feedback_id: int | None
    assigned_at: datetime
    saved_at: datetime
    done_at: datetime | None

    @property
    def complete(self) -> bool:
        """Whether it can be finished. When one reply is left its place is clear."""
        return self.verdict is not None or len(self.ranked) >= len(self.shown) - 1


@dataclass(frozen=True, slots=True)
class Assignment:
    """A label with what it is about: the replies in the order in which this annotator sees them."""

    label: Label
    task: Task
    replies: tuple[Reply, ...]


def next_assignment(
    connection: Connection, annotator: str, queue: Queue | None = None, *, at: datetime | None = None
) -> Assignment | None:
    """Return what this annotator has open, else give them the next task; None when there is nothing for them."""
    present = at or now()
    lock_inbox(connection)  # two annotators must not both be the last that a task wanted
    mine = (annotation_labels.c.annotator == annotator) & (annotation_labels.c.state == "open")
    query = select(annotation_labels).join(annotation_tasks).where(mine)
    if queue is not None:
        query = query.where(annotation_tasks.c.queue == queue)
    for row in connection.execute(query.order_by(annotation_labels.c.saved_at.desc())).mappings().all():
        if (found := _assignment(connection, _label(row))) is not None:
            return found
    for _ in range(20):  # tasks whose texts have gone since are passed over
        task = _next_task(connection, annotator, queue, present)
        if task is None:
            return None
        if (given := _assign(connection, annotator, task, present)) is not None:
            return given
    return None


def assignment(connection: Connection, annotator: str, label_id: int) -> Assignment:
    """Return one of this annotator's labels. Raises NotFound, also for somebody else's."""
    found = _assignment(connection, _mine(connection, annotator, label_id, to_write=False))
    if found is None:
        raise NotFound(f"the replies of label {label_id} are kept no longer")
    return found


def save(
    connection: Connection,
    annotator: str,
    label_id: int,
    revision: int,
    *,
    ranked: Sequence[str] = (),
    verdict: LabelVerdict | None = None,
    reasons: Sequence[str] = (),
    note: str = "",
    at: datetime | None = None,
) -> Label:
    """Keep how far somebody got. Raises Conflict when it was saved elsewhere since `revision` or is not open, Refused
    for a ranking of what was not shown."""
    label = _open(connection, annotator, label_id, revision)
    if len(set(ranked)) != len(ranked) or not set(ranked) <= set(label.shown):
        raise Refused("ranked", f"ranked holds {len(ranked)} ids; wanted: of {', '.join(label.shown)}, each once")
    if verdict not in (None, "tie", "both_bad"):
        raise Refused("verdict", f"verdict is {verdict!r}; wanted: tie, both_bad or none")
    if unknown := set(reasons) - set(REASONS):
        raise Refused("reasons", f"reasons has {min(unknown)!r}; wanted: of {', '.join(REASONS)}")
    check_text("note", note, most=MOST_NOTE_CHARACTERS)
    values: dict[str, Any] = {
        "ranked": [] if verdict is not None else list(ranked),
        "verdict": verdict,
        "reasons": [reason for reason in REASONS if reason in reasons],
        "note": note,
    }
    return _update(connection, label, at or now(), **values)


def finish(
    connection: Connection,
    annotator: str,
    label_id: int,
    revision: int,
    *,
    at: datetime | None = None,
) -> Label:
    """Make a complete label feedback. Raises Conflict as `save` does, Refused while it is not complete."""
    label = _open(connection, annotator, label_id, revision)
    if not label.complete:
        raise Refused(
            "ranked", f"ranked holds {len(label.ranked)} of {len(label.shown)}; wanted: all of them, a tie or both bad"
        )
    ranked = label.ranked
    if label.verdict is None:
        ranked += tuple(name for name in label.shown if name not in ranked)
    task = get_task(connection, label.task_id)
    number = label.feedback_id
    if task.gold is None:
        rater_id = staff_rater_id(annotator)
        ensure_rater(connection, rater_id, ANNOTATE_CHANNEL)
        said = _feedback(task, label, ranked, rater_id)
        number = add_feedback(connection, said).feedback_id
        _leave_out_former(connection, annotator, label, said.kind)
    present = at or now()
    return _update(connection, label, present, ranked=list(ranked), state="done", done_at=present, feedback_id=number)


def skip(connection: Connection, annotator: str, label_id: int, revision: int, *, at: datetime | None = None) -> Label:
    """Leave a task to others. Raises Conflict as `save` does."""
    label = _open(connection, annotator, label_id, revision)
    return _update(connection, label, at or now(), state="skipped")


def reopen(connection: Connection, annotator: str, label_id: int, *, at: datetime | None = None) -> Label:
    """Change one's mind on a label that was done or skipped: what it said holds until it is finished again."""
    label = _mine(connection, annotator, label_id)
    if label.state == "open":
        return label
    return _update(connection, label, at or now(), state="open", done_at=None)


def last_label(connection: Connection, annotator: str) -> Label | None:
    """Return what this annotator ended last."""
    query = (
        select(annotation_labels)
        .where(annotation_labels.c.annotator == annotator, annotation_labels.c.state != "open")
        .order_by(annotation_labels.c.saved_at.desc(), annotation_labels.c.label_id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _label(row)


def _next_task(connection: Connection, annotator: str, queue: Queue | None, present: datetime) -> Task | None:
    labels = annotation_labels.c
    mine = select(labels.label_id).where(labels.task_id == annotation_tasks.c.task_id, labels.annotator == annotator)
    held = select(func.count()).where(
        labels.task_id == annotation_tasks.c.task_id,
        or_(labels.state == "done", and_(labels.state == "open", labels.saved_at > present - LEASE)),
    )
    free = select(annotation_tasks).where(~mine.exists())
    if queue is not None:
        free = free.where(annotation_tasks.c.queue == queue)
    done = select(func.count()).where(labels.annotator == annotator, labels.state == "done")
    if connection.execute(done).scalar_one() % GOLD_EVERY == GOLD_EVERY // 2:
        gold = free.where(annotation_tasks.c.gold.is_not(None)).order_by(annotation_tasks.c.task_id).limit(1)
        row = connection.execute(gold).mappings().one_or_none()
        if row is not None:
            return task_of_row(row)
    free = free.where(annotation_tasks.c.gold.is_(None), held.scalar_subquery() < annotation_tasks.c.overlap)
    for name in QUEUES if queue is None else (queue,):
        best = free.where(annotation_tasks.c.queue == name)
        best = best.order_by(annotation_tasks.c.priority.desc(), annotation_tasks.c.task_id).limit(1)
        row = connection.execute(best).mappings().one_or_none()
        if row is not None:
            return task_of_row(row)
    return None


def _assign(connection: Connection, annotator: str, task: Task, present: datetime) -> Assignment | None:
    """Give the task to the annotator. None when it cannot be shown any more; it is then skipped for them."""
    shown = showable(connection, [task.comparison_id])
    replies = [] if not shown else list(shown[task.comparison_id][1])
    random.Random(f"{task.task_id}:{annotator}").shuffle(replies)
    values = {
        "task_id": task.task_id,
        "annotator": annotator,
        "state": "open" if replies else "skipped",
        "shown": [reply.reply_id for reply in replies],
        "ranked": [],
        "verdict": None,
        "reasons": [],
        "note": "",
        "revision": 0,
        "feedback_id": None,
        "assigned_at": present,
        "saved_at": present,
        "done_at": None,
    }
    key = connection.execute(insert(annotation_labels), values).inserted_primary_key
    if not replies:
        return None
    label = _mine(connection, annotator, int(key[0]) if key else 0)
    return Assignment(label, task, tuple(replies))


def _assignment(connection: Connection, label: Label) -> Assignment | None:
    task = get_task(connection, label.task_id)
    shown = showable(connection, [task.comparison_id])
    if not shown:
        return None
    replies = {reply.reply_id: reply for reply in shown[task.comparison_id][1]}
    return Assignment(label, task, tuple(replies[name] for name in label.shown))


def _mine(connection: Connection, annotator: str, label_id: int, *, to_write: bool = True) -> Label:
    query = select(annotation_labels).where(
        annotation_labels.c.label_id == label_id, annotation_labels.c.annotator == annotator
    )
    row = connection.execute(query.with_for_update() if to_write else query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no label {label_id}")
    return _label(row)


def _open(connection: Connection, annotator: str, label_id: int, revision: int) -> Label:
    label = _mine(connection, annotator, label_id)
    if label.state != "open":
        raise Conflict(f"this task is {label.state} already (on another device?); wanted: one that is open")
    if label.revision != revision:
        raise Conflict("this task was saved on another device since; wanted: look at it again, then go on")
    return label


def _update(connection: Connection, label: Label, present: datetime, **values: Any) -> Label:
    values |= {"revision": label.revision + 1, "saved_at": present}
    mine = annotation_labels.c.label_id == label.label_id
    connection.execute(update(annotation_labels).where(mine).values(**values))
    return _mine(connection, label.annotator, label.label_id)


def _feedback(task: Task, label: Label, ranked: tuple[str, ...], rater_id: str) -> NewFeedback:
    reason = "; ".join([*label.reasons, *([label.note] if label.note else [])]) or None
    if label.verdict is None and len(ranked) > 2:
        return NewFeedback(
            "ranking", rater_id, ANNOTATE_CHANNEL, comparison_id=task.comparison_id, ranking=ranked, reason=reason
        )
    verdict = label.verdict or ranked[0]
    return NewFeedback(
        "verdict", rater_id, ANNOTATE_CHANNEL, comparison_id=task.comparison_id, verdict=verdict, reason=reason
    )


def _leave_out_former(connection: Connection, annotator: str, label: Label, kind: str) -> None:
    """A verdict does not supersede a ranking, nor the other way: the former label's act is excluded then."""
    if label.feedback_id is None:
        return
    former = select(feedback.c.kind).where(feedback.c.feedback_id == label.feedback_id)
    if connection.execute(former).scalar_one() == kind:
        return
    seen = select(feedback_reviews.c.revision).where(feedback_reviews.c.feedback_id == label.feedback_id)
    target = Target(label.shown[0], connection.execute(seen).scalar() or 0, feedback_id=label.feedback_id)
    act(connection, "exclude", [target], actor=annotator, reason="labelled anew")


def _label(row: RowMapping) -> Label:
    values = dict(row)
    for name in ("shown", "ranked", "reasons"):
        values[name] = tuple(values[name])
    return Label(**values)
