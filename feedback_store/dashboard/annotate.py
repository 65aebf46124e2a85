"""Annotate: rank two to four replies, blind to their versions, saved at every step, resumable anywhere.

A page names replies by their place on it (0, 1 …), never by id or version: what it does not hold cannot be read off it.
Steps are saved by the page's script as they happen; without a script every press is a form.
"""

from dataclasses import dataclass
from typing import Literal

from starlette.responses import JSONResponse, Response

from feedback_store import annotation_labels as labels
from feedback_store import annotation_queues as queues
from feedback_store.annotation_labels import REASONS, Label, LabelVerdict
from feedback_store.annotation_progress import Progress, RequestProgress, labels_and_tasks, progress, requests
from feedback_store.annotation_queues import Queue, Task
from feedback_store.connection import Connection
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.inbox import take_up_news
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.inbox_search import question_of
from feedback_store.pages.language import to_translate

routes = Routes()
NOTHING_LEFT = routes.notice("nothing-left", to_translate("There is nothing left to rank here. Thank you."))
FILLED = routes.notice("queue-filled", to_translate("The queue has new tasks."))
NOTHING_FITS = routes.notice(
    "nothing-fits", to_translate("No comparison in the store fits this queue, or all are in it.")
)
GOLD = routes.notice("gold-made", to_translate("This is a gold item now: it measures annotators and never trains."))
NO_LABEL = routes.notice("no-label", to_translate("There is nothing to go back to."))

QUEUE_WORDS: dict[Queue, tuple[str, str]] = {
    "uncertain": (to_translate("Most uncertain"), to_translate("Pairs that would teach most.")),
    "disputed": (to_translate("Disputed"), to_translate("Comparisons on which raters disagree.")),
    "candidates": (to_translate("New candidates"), to_translate("Replies generated to be ranked.")),
    "random": (to_translate("Random"), to_translate("Any comparison: how far off are the others?")),
}
REASON_WORDS = {
    "correct": to_translate("correct"),
    "clear": to_translate("clear"),
    "complete": to_translate("complete"),
    "brief": to_translate("brief"),
    "kind": to_translate("kind"),
    "safe": to_translate("safe"),
    "on_topic": to_translate("on topic"),
}


class NextForm(Form):
    """Which queue to work on; none: all, the most urgent first."""

    queue: Queue | None = None


class FillForm(Form):
    """How many tasks to look for."""

    queue: Queue
    count: int = 20


class LabelForm(Form):
    """How far somebody got. `ranked` holds places on the page, best first; `pick` adds one to it, without a script."""

    action: Literal["save", "finish", "skip", "reopen"] = "save"
    revision: int = 0
    ranked: tuple[int, ...] = ()
    verdict: LabelVerdict | None = None
    reasons: tuple[str, ...] = ()
    note: str = ""
    pick: int | None = None
    unpick: str | None = None
    judge: str | None = None


@dataclass(frozen=True, slots=True)
class _Home:
    progress: Progress
    last: Label | None


@routes.on("GET /dashboard/annotate")
async def show_annotate(visit: Visit) -> Response:
    """Show what is asked for, what is left, and how far annotators agree."""
    # Agreement is worked out anew when there is a new label, not for every look.
    done = await visit.read(labels_and_tasks)
    found = await visit.pages.memory.get(("annotate", visit.actor, done), lambda: visit.read(_home, visit.actor))
    return visit.render("annotate.html", found=found, queue_words=QUEUE_WORDS)


@routes.on("POST /dashboard/annotate/next")
async def next_task(visit: Visit) -> Response:
    """Go to what one has open, else to the next task."""
    form = await visit.form(NextForm)
    given = await visit.parts.store.write_async(labels.next_assignment, visit.actor, form.queue)
    if given is None:
        return visit.go("/dashboard/annotate", done=NOTHING_LEFT)
    return visit.go(_page_of(given.label), queue=form.queue)


@routes.on("POST /dashboard/annotate/back")
async def back_to_last(visit: Visit) -> Response:
    """Go back to the label that was ended last, and open it again."""
    last = await visit.read(labels.last_label, visit.actor)
    if last is None:
        return visit.go("/dashboard/annotate", done=NO_LABEL)
    act = visit.act("label.reopen", f"label {last.label_id}")
    return visit.go(_page_of(await visit.write(act, labels.reopen, visit.actor, last.label_id)))


@routes.on("GET /dashboard/annotate/labels/{label_id}")
async def show_label(visit: Visit) -> Response:
    """Show a task as this annotator is shown it."""
    queue = visit.query(NextForm).queue
    given = await visit.read(labels.assignment, visit.actor, visit.number("label_id"))
    asked = await visit.read(requests)
    label = given.label
    return visit.render(
        "annotate_label.html",
        label=label,
        task=given.task,
        replies=given.replies,
        ranked=[label.shown.index(name) for name in label.ranked],
        messages=given.replies[0].messages or (),
        question=question_of(given.replies[0].messages),
        queue=queue,
        queue_words=QUEUE_WORDS,
        reasons={name: REASON_WORDS[name] for name in REASONS},
        request=_request_of(asked, given.task),
        last=await visit.read(labels.last_label, visit.actor),
    )


@routes.on("POST /dashboard/annotate/labels/{label_id}")
async def work_on_label(visit: Visit) -> Response:
    """Save a step, finish, skip, or open again."""
    number, form = visit.number("label_id"), await visit.form(LabelForm)
    queue = visit.request.query_params.get("queue") or None
    if visit.request.headers.get("accept") == "application/json":
        try:
            label = await visit.parts.store.write_async(_save, visit.actor, number, form)
        except (Conflict, NotFound, Refused) as problem:
            return JSONResponse({"message": str(problem)}, 409, headers=dict(visit.pages.headers))
        return JSONResponse({"revision": label.revision}, headers=dict(visit.pages.headers))
    if form.action == "save":
        label = await visit.parts.store.write_async(_save, visit.actor, number, form)
        return visit.go(_page_of(label), queue=queue)
    if form.action == "reopen":
        act = visit.act("label.reopen", f"label {number}")
        return visit.go(_page_of(await visit.write(act, labels.reopen, visit.actor, number)), queue=queue)
    end = _finish if form.action == "finish" else _skip
    await visit.write(visit.act(f"label.{form.action}", f"label {number}"), end, visit.actor, number, form)
    wanted = checked_queue(queue)
    given = await visit.parts.store.write_async(labels.next_assignment, visit.actor, wanted)
    if given is None:
        return visit.go("/dashboard/annotate", done=NOTHING_LEFT)
    return visit.go(_page_of(given.label), queue=wanted)


@routes.on("POST /dashboard/annotate/labels/{label_id}/gold")
async def make_gold(visit: Visit) -> Response:
    """Take one's own finished ranking as the right answer of a gold item."""
    number = visit.number("label_id")
    given = await visit.read(labels.assignment, visit.actor, number)
    if given.label.state != "done" or given.label.verdict is not None:
        raise Refused("gold", "this label is no finished ranking; wanted: rank all the replies, then make it gold")
    act = visit.act("task.gold", f"task {given.task.task_id}")
    await visit.write(act, queues.make_gold, given.task.task_id, given.label.ranked)
    return visit.go("/dashboard/annotate", done=GOLD)


@routes.on("POST /dashboard/annotate/queues")
async def fill_queue(visit: Visit) -> Response:
    """Look for comparisons that fit a queue."""
    form = await visit.form(FillForm)
    await take_up_news(visit)  # what is disputed, the inbox knows
    act = visit.act("queue.fill", f"queue {form.queue}", details={"count": form.count})
    added = await visit.write(act, queues.fill, form.queue, form.count, created_by=visit.actor)
    return visit.go("/dashboard/annotate", done=FILLED if added else NOTHING_FITS)


@routes.topic("annotate", "annotator")
def annotate_pulse(connection: Connection, which: str) -> str:
    """Changes with every finished label and every new task."""
    return "-".join(str(number) for number in labels_and_tasks(connection))


def checked_queue(name: str | None) -> Queue | None:
    """Return the queue of an address, or None for all of them."""
    return next((queue for queue in queues.QUEUES if queue == name), None)


def _home(connection: Connection, annotator: str) -> _Home:
    return _Home(progress(connection, annotator), labels.last_label(connection, annotator))


def _page_of(label: Label) -> str:
    return f"/dashboard/annotate/labels/{label.label_id}"


def _request_of(asked: list[RequestProgress], task: Task) -> RequestProgress | None:
    """The request that a task is part of, else the newest that is not fulfilled."""
    mine = [one for one in asked if one.request.request_id == task.request_id]
    return next(iter(mine or [one for one in asked if not one.fulfilled]), None)


def _save(connection: Connection, annotator: str, label_id: int, form: LabelForm) -> Label:
    shown = labels.assignment(connection, annotator, label_id).label.shown
    places = list(form.ranked)
    verdict = form.verdict
    if form.pick is not None and form.pick not in places:
        places, verdict = [*places, form.pick], None
    if form.unpick is not None:
        places, verdict = places[:-1], None
    if form.judge in ("tie", "both_bad"):
        verdict = "tie" if form.judge == "tie" else "both_bad"
    if any(not 0 <= place < len(shown) for place in places):
        raise Refused("ranked", f"ranked holds a place beyond the {len(shown)} replies shown")
    return labels.save(
        connection,
        annotator,
        label_id,
        form.revision,
        ranked=[shown[place] for place in places],
        verdict=verdict,
        reasons=form.reasons,
        note=form.note,
    )


def _finish(connection: Connection, annotator: str, label_id: int, form: LabelForm) -> Label:
    return labels.finish(connection, annotator, label_id, _save(connection, annotator, label_id, form).revision)


def _skip(connection: Connection, annotator: str, label_id: int, form: LabelForm) -> Label:
    return labels.skip(connection, annotator, label_id, _save(connection, annotator, label_id, form).revision)
