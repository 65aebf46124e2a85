"""How annotation stands: what is left in each queue, what requests still want, how far annotators agree."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sqlalchemy import Connection, Row, and_, case, func, select

from feedback_store.agreement import Agreement, agreement
from feedback_store.annotation_queues import QUEUES, LabelRequest, Queue, get_request, list_requests
from feedback_store.review_schema import annotation_labels, annotation_tasks

MOST_LABELS = 5_000
"""The newest labels that agreement is computed from."""


@dataclass(frozen=True, slots=True)
class QueueProgress:
    """A queue. `labelled`: tasks with at least one label; `for_me`: those this annotator could be given."""

    queue: Queue
    tasks: int
    labelled: int
    for_me: int


@dataclass(frozen=True, slots=True)
class RequestProgress:
    """A request, and how many of its tasks have a label."""

    request: LabelRequest
    done: int

    @property
    def fulfilled(self) -> bool:
        """Whether as many as were wanted are labelled."""
        return self.done >= self.request.wanted


@dataclass(frozen=True, slots=True)
class AnnotatorProgress:
    """One annotator. Gold counts the pairs of replies of gold items and how many were put in the right order."""

    annotator: str
    done: int
    skipped: int
    gold_pairs: int
    gold_right: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything a page about annotation says."""

    queues: tuple[QueueProgress, ...]
    requests: tuple[RequestProgress, ...]
    annotators: tuple[AnnotatorProgress, ...]
    agreement: Agreement
    """α over pairs of replies that two or more annotators put in an order (or called equal)."""


def progress(connection: Connection, annotator: str) -> Progress:
    """Read how annotation stands, for this annotator."""
    labels = _done_labels(connection)
    return Progress(
        tuple(_queues(connection, annotator)),
        tuple(requests(connection)),
        tuple(_annotators(connection, labels)),
        agreement_of(labels),
    )


def labels_and_tasks(connection: Connection) -> tuple[int, int]:
    """Return how many labels are done and how many tasks there are."""
    done = select(func.count()).select_from(annotation_labels).where(annotation_labels.c.state == "done")
    tasks = select(func.count()).select_from(annotation_tasks)
    return connection.execute(done).scalar_one(), connection.execute(tasks).scalar_one()


def preferences(shown: Sequence[str], ranked: Sequence[str], verdict: str | None) -> dict[tuple[str, str], float]:
    """Read a label as one value for each pair of replies, by id: 1 the first is better, −1 the second, 0 neither."""
    place = {name: number for number, name in enumerate(ranked)}
    found: dict[tuple[str, str], float] = {}
    for first, second in combinations(sorted(shown), 2):
        if verdict is not None:
            found[first, second] = 0.0
        elif first in place and second in place:
            found[first, second] = 1.0 if place[first] < place[second] else -1.0
    return found


def agreement_of(labels: Sequence[Row[tuple[object, ...]]]) -> Agreement:
    """Compute α over labels that are no gold; the pairs of one task are resampled together.

    A pair has no first reply, so each counts in both directions: read in one, people who agree that the reply with the
    lesser id is better would look as if they always said the same, which α takes for knowing nothing.
    """
    units: dict[tuple[int, str, str], list[float]] = defaultdict(list)
    for label in labels:
        if label.gold is None:
            for (first, second), value in preferences(label.shown, label.ranked, label.verdict).items():
                units[label.task_id, first, second].append(value)
    mirrored = [[-value for value in values] for values in units.values()]
    tasks = [task_id for task_id, _, _ in units]
    found = agreement([*units.values(), *mirrored], cluster=tasks * 2)
    return replace(found, units=found.units // 2)


def _done_labels(connection: Connection) -> list[Row[tuple[object, ...]]]:
    label, task = annotation_labels.c, annotation_tasks.c
    query = (
        select(label.annotator, label.task_id, label.shown, label.ranked, label.verdict, task.gold)
        .join(annotation_tasks, task.task_id == label.task_id)
        .where(label.state == "done")
        .order_by(label.label_id.desc())
        .limit(MOST_LABELS)
    )
    return list(connection.execute(query))


def _queues(connection: Connection, annotator: str) -> list[QueueProgress]:
    label, task = annotation_labels.c, annotation_tasks.c
    per_task = (
        select(
            label.task_id,
            func.sum(case((label.state == "done", 1), else_=0)).label("done"),
            func.sum(case((and_(label.annotator == annotator, label.state != "open"), 1), else_=0)).label("mine"),
        )
        .group_by(label.task_id)
        .subquery()
    )
    done, mine = func.coalesce(per_task.c.done, 0), func.coalesce(per_task.c.mine, 0)
    query = (
        select(
            task.queue,
            func.count(),
            func.sum(case((done > 0, 1), else_=0)),
            func.sum(case((and_(mine == 0, done < task.overlap), 1), else_=0)),
        )
        .join(per_task, per_task.c.task_id == task.task_id, isouter=True)
        .where(task.gold.is_(None))
        .group_by(task.queue)
    )
    found = {row[0]: QueueProgress(row[0], *(int(number) for number in row[1:])) for row in connection.execute(query)}
    return [found.get(queue, QueueProgress(queue, 0, 0, 0)) for queue in QUEUES]


def requests(connection: Connection) -> list[RequestProgress]:
    """Return the newest requests, newest first, with how far they are."""
    found = list_requests(connection)
    done = _done(connection, [request.request_id for request in found])
    return [RequestProgress(request, done.get(request.request_id, 0)) for request in found]


def request_progress(connection: Connection, request_id: int) -> RequestProgress | None:
    """Return how far one request is; None when there is none of this number."""
    request = get_request(connection, request_id)
    if request is None:
        return None
    return RequestProgress(request, _done(connection, [request_id]).get(request_id, 0))


def _done(connection: Connection, request_ids: Sequence[int]) -> dict[int, int]:
    """Request → how many of its tasks have a label."""
    label, task = annotation_labels.c, annotation_tasks.c
    query = (
        select(task.request_id, func.count(task.task_id.distinct()))
        .join(annotation_labels, and_(label.task_id == task.task_id, label.state == "done"))
        .where(task.request_id.in_(request_ids))
        .group_by(task.request_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _annotators(connection: Connection, labels: Sequence[Row[tuple[object, ...]]]) -> list[AnnotatorProgress]:
    label = annotation_labels.c
    query = select(
        label.annotator,
        func.sum(case((label.state == "done", 1), else_=0)),
        func.sum(case((label.state == "skipped", 1), else_=0)),
    ).group_by(label.annotator)
    pairs: dict[str, int] = defaultdict(int)
    right: dict[str, int] = defaultdict(int)
    for one in labels:
        if one.gold is not None:
            wanted = preferences(one.shown, one.gold, None)
            given = preferences(one.shown, one.ranked, one.verdict)
            pairs[one.annotator] += len(wanted)
            right[one.annotator] += sum(given.get(pair) == value for pair, value in wanted.items())
    found = [
        AnnotatorProgress(name, int(done), int(skipped), pairs[name], right[name])
        for name, done, skipped in connection.execute(query)
    ]
    return sorted(found, key=lambda one: (-one.done, one.annotator))
