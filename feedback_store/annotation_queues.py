"""What annotators are asked to rank: tasks, each a comparison of two to four replies, in four queues.

    uncertain    pairs that teach most: asked for by a trainer with the margins of its reward model; filled by hand, the
                 unjudged comparisons whose replies the policy itself finds most alike (nearest log-probability a token)
    disputed     comparisons on which raters disagree, those with most raters first
    candidates   replies generated to be ranked, the newest first
    random       any, to know how the others are off

A task asks several annotators (`overlap`), so that agreement can be told. A gold item has a known answer: it is mixed
in, says how well an annotator does, and never becomes feedback. Only what people let us keep is shown: a comparison
whose texts are gone, whose rater took consent back, or of which an operator excluded a reply is never asked about.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, Select, and_, delete, func, insert, or_, select, update

from feedback_store.checks import check_text
from feedback_store.errors import NotFound, Refused
from feedback_store.inserts import insert_if_new
from feedback_store.records import Comparison, Reply
from feedback_store.replies import comparisons_by_id, trainable_replies
from feedback_store.review_schema import (
    annotation_labels,
    annotation_requests,
    annotation_tasks,
    inbox,
    reply_reviews,
)
from feedback_store.schema import comparisons, feedback, now, replies

Queue = Literal["uncertain", "disputed", "candidates", "random"]
QUEUES: tuple[Queue, ...] = ("uncertain", "disputed", "candidates", "random")
"""In the order in which they are worked off."""
CANDIDATES_CHANNEL = "candidates"
"""The channel of comparisons that were generated to be ranked."""
OVERLAP = 2
MOST_OVERLAP = 10
LEAST_REPLIES, MOST_REPLIES = 2, 4
MOST_TASKS_AT_ONCE = 500
_LOOKED_THROUGH = 3_000
"""Comparisons that one filling looks at more closely."""


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """Somebody (a trainer, an operator) needs labels: "`done` of `wanted` labels `purpose`"."""

    request_id: int
    queue: Queue
    wanted: int
    purpose: str
    """For people, such as "until PPO may run"."""
    requested_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Task:
    """A comparison to be ranked."""

    task_id: int
    queue: Queue
    comparison_id: str
    request_id: int | None
    priority: float
    overlap: int
    gold: tuple[str, ...] | None
    """The right order, best first."""
    created_by: str
    created_at: datetime


def ask_for_labels(
    connection: Connection,
    queue: Queue,
    priorities: Mapping[str, float],
    *,
    wanted: int,
    purpose: str,
    requested_by: str,
    overlap: int = OVERLAP,
) -> LabelRequest:
    """Ask for labels on these comparisons (id → priority, higher first): `wanted` tasks labelled fulfil the request.

    Raises Refused for an empty request or one that wants more than it names, NotFound for an unknown comparison.
    """
    if not 1 <= wanted <= len(priorities):
        raise Refused("wanted", f"wanted is {wanted} of {len(priorities)} comparisons; wanted: 1 to all of them")
    check_text("purpose", purpose, least=1, most=200)
    unknown = set(priorities) - set(comparisons_by_id(connection, sorted(priorities)))
    if unknown:
        raise NotFound(f"no comparison {min(unknown)!r}")
    values = {
        "queue": _checked(queue),
        "wanted": wanted,
        "purpose": purpose,
        "requested_by": requested_by,
        "created_at": now(),
    }
    key = connection.execute(insert(annotation_requests), values).inserted_primary_key
    request = LabelRequest(request_id=int(key[0]) if key else 0, **values)  # type: ignore[arg-type]
    add_tasks(connection, queue, priorities, created_by=requested_by, overlap=overlap, request_id=request.request_id)
    return request


def withdraw(connection: Connection, request_id: int) -> None:
    """Take back what is left of a request: its tasks stay in their queue, for whoever asks for them next; what was
    labelled fulfils it."""
    label, task = annotation_labels.c, annotation_tasks.c
    is_done = select(label.label_id).where(label.task_id == task.task_id, label.state == "done").exists()
    mine = task.request_id == request_id
    connection.execute(update(annotation_tasks).where(mine, ~is_done).values(request_id=None))
    done = connection.execute(select(func.count()).select_from(annotation_tasks).where(mine)).scalar_one()
    this = annotation_requests.c.request_id == request_id
    if done:
        connection.execute(update(annotation_requests).where(this).values(wanted=done))
    else:
        connection.execute(delete(annotation_requests).where(this))


def add_tasks(
    connection: Connection,
    queue: Queue,
    priorities: Mapping[str, float],
    *,
    created_by: str,
    overlap: int = OVERLAP,
    request_id: int | None = None,
) -> int:
    """Add a task for each comparison that has none, and return how many that were. A task that is there already joins
    a request that has none for it."""
    if not 1 <= overlap <= MOST_OVERLAP:
        raise Refused("overlap", f"overlap is {overlap}; wanted: 1 to {MOST_OVERLAP} annotators a task")
    added = 0
    for comparison_id, priority in priorities.items():
        values = {
            "queue": _checked(queue),
            "comparison_id": comparison_id,
            "request_id": request_id,
            "priority": priority,
            "overlap": overlap,
            "gold": None,
            "created_by": created_by,
            "created_at": now(),
        }
        if insert_if_new(connection, annotation_tasks, values):
            added += 1
        elif request_id is not None:
            mine = and_(annotation_tasks.c.comparison_id == comparison_id, annotation_tasks.c.request_id.is_(None))
            connection.execute(update(annotation_tasks).where(mine).values(request_id=request_id, queue=queue))
    return added


def fill(
    connection: Connection, queue: Queue, count: int, *, created_by: str, overlap: int = OVERLAP, seed: int = 0
) -> int:
    """Find up to `count` comparisons that fit a queue and have no task, add them, and return how many there were."""
    if not 1 <= count <= MOST_TASKS_AT_ONCE:
        raise Refused("count", f"count is {count}; wanted: 1 to {MOST_TASKS_AT_ONCE}")
    pick = {"uncertain": _uncertain, "disputed": _disputed, "candidates": _candidates, "random": _random}
    found = pick[_checked(queue)](connection, seed)
    chosen: dict[str, float] = {}
    names = list(found)
    for start in range(0, len(names), 100):
        shown = showable(connection, names[start : start + 100])
        chosen |= {name: found[name] for name in names[start : start + 100] if name in shown}
        if len(chosen) >= count:
            break
    return add_tasks(connection, queue, dict(list(chosen.items())[:count]), created_by=created_by, overlap=overlap)


def make_gold(connection: Connection, task_id: int, order: Sequence[str]) -> Task:
    """Make a task a gold item: `order` is the right answer, best first. Raises NotFound, Refused."""
    task = get_task(connection, task_id)
    shown = comparisons_by_id(connection, [task.comparison_id])[task.comparison_id]
    if sorted(order) != sorted(shown.reply_ids):
        raise Refused("gold", f"gold holds {len(order)} ids; wanted: each of {', '.join(shown.reply_ids)} once")
    values = {"gold": list(order)}
    connection.execute(update(annotation_tasks).where(annotation_tasks.c.task_id == task_id).values(**values))
    return get_task(connection, task_id)


def get_task(connection: Connection, task_id: int) -> Task:
    """Return a task. Raises NotFound."""
    query = select(annotation_tasks).where(annotation_tasks.c.task_id == task_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no task {task_id}")
    return task_of_row(row)


def task_of_row(row: RowMapping) -> Task:
    """The record of a stored row."""
    gold = row["gold"]
    return Task(**(dict(row) | {"gold": None if gold is None else tuple(gold)}))


def list_requests(connection: Connection, limit: int = 20) -> list[LabelRequest]:
    """Return the newest requests, newest first."""
    query = select(annotation_requests).order_by(annotation_requests.c.request_id.desc()).limit(limit)
    return [LabelRequest(**row) for row in connection.execute(query).mappings()]


def get_request(connection: Connection, request_id: int) -> LabelRequest | None:
    """Return a request; None when there is none of this number."""
    query = select(annotation_requests).where(annotation_requests.c.request_id == request_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else LabelRequest(**row)


def unjudged(connection: Connection, most: int) -> list[str]:
    """Return the newest comparisons on which nobody has said anything."""
    judged = select(feedback.c.feedback_id).where(feedback.c.comparison_id == comparisons.c.comparison_id).exists()
    query = select(comparisons.c.comparison_id).where(~judged)
    newest = query.order_by(comparisons.c.created_at.desc(), comparisons.c.comparison_id).limit(most)
    return list(connection.execute(newest).scalars())


def labelled(connection: Connection, comparison_ids: Sequence[str]) -> set[str]:
    """Return which of these comparisons an annotator has finished a label on."""
    query = (
        select(annotation_tasks.c.comparison_id)
        .join(annotation_labels, annotation_labels.c.task_id == annotation_tasks.c.task_id)
        .where(annotation_labels.c.state == "done", annotation_tasks.c.comparison_id.in_(comparison_ids))
    )
    return set(connection.execute(query).scalars())


def showable(connection: Connection, comparison_ids: Sequence[str]) -> dict[str, tuple[Comparison, list[Reply]]]:
    """Return of these comparisons those that may be shown to annotators, with their replies."""
    found = comparisons_by_id(connection, comparison_ids)
    names = [name for comparison in found.values() for name in comparison.reply_ids]
    texts = trainable_replies(connection, names)
    excluded = select(reply_reviews.c.reply_id).where(reply_reviews.c.excluded.is_(True))
    left_out = set(connection.execute(excluded.where(reply_reviews.c.reply_id.in_(names))).scalars())
    return {
        name: (comparison, [texts[reply_id] for reply_id in comparison.reply_ids])
        for name, comparison in found.items()
        if LEAST_REPLIES <= len(comparison.reply_ids) <= MOST_REPLIES
        and all(reply_id in texts and reply_id not in left_out for reply_id in comparison.reply_ids)
    }


def _checked(queue: str) -> Queue:
    for known in QUEUES:
        if queue == known:
            return known
    raise Refused("queue", f"queue is {queue!r}; wanted: {', '.join(QUEUES)}")


def _without_task(columns: Iterable[Any]) -> Select[Any]:
    has_task = select(annotation_tasks.c.task_id).where(annotation_tasks.c.comparison_id == comparisons.c.comparison_id)
    return select(*columns).select_from(comparisons).where(~has_task.exists())


def _disputed(connection: Connection, seed: int) -> dict[str, float]:
    query = (
        _without_task([comparisons.c.comparison_id, func.max(inbox.c.raters)])
        .join(replies, replies.c.comparison_id == comparisons.c.comparison_id)
        .join(inbox, and_(inbox.c.reply_id == replies.c.reply_id, inbox.c.disputed.is_(True)))
        .group_by(comparisons.c.comparison_id)
        .order_by(func.max(inbox.c.raters).desc(), comparisons.c.comparison_id)
        .limit(_LOOKED_THROUGH)
    )
    return {name: float(raters) for name, raters in connection.execute(query)}


def _uncertain(connection: Connection, seed: int) -> dict[str, float]:
    judged = select(feedback.c.feedback_id).where(feedback.c.comparison_id == comparisons.c.comparison_id).exists()
    newest = (
        _without_task([comparisons.c.comparison_id])
        .where(~judged)
        .order_by(comparisons.c.created_at.desc())
        .limit(_LOOKED_THROUGH)
        .subquery()
    )
    columns = (replies.c.comparison_id, replies.c.logprob_nats, replies.c.completion_tokens)
    query = select(*columns).where(
        replies.c.comparison_id.in_(select(newest.c.comparison_id)),
        replies.c.logprob_nats.is_not(None),
        replies.c.completion_tokens > 0,
    )
    each: dict[str, list[float]] = {}
    for name, logprob_nats, tokens in connection.execute(query):
        each.setdefault(name, []).append(logprob_nats / tokens)
    apart = {name: max(nats) - min(nats) for name, nats in each.items() if len(nats) >= LEAST_REPLIES}
    return {name: -apart[name] for name in sorted(apart, key=lambda name: (apart[name], name))}


def _candidates(connection: Connection, seed: int) -> dict[str, float]:
    query = _without_task([comparisons.c.comparison_id]).where(
        or_(
            comparisons.c.channel == CANDIDATES_CHANNEL,
            comparisons.c.channel.startswith(f"{CANDIDATES_CHANNEL}-", autoescape=True),
        )
    )
    names = connection.execute(query.order_by(comparisons.c.created_at.desc()).limit(_LOOKED_THROUGH)).scalars()
    return dict.fromkeys(names, 0.0)


def _random(connection: Connection, seed: int) -> dict[str, float]:
    names = list(connection.execute(_without_task([comparisons.c.comparison_id])).scalars())
    names.sort()
    random.Random(seed).shuffle(names)
    return dict.fromkeys(names[:_LOOKED_THROUGH], 0.0)
