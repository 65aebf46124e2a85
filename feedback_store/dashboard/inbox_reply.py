"""The page of one reply: its conversation, who said what of it, where it came from, and what may be done to it."""

from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from feedback_store import inbox_search, review
from feedback_store.connection import Connection
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.inbox import (
    UNDO_FOR,
    WORDS_OF_ACTS,
    InboxQuery,
    after_conflict,
    back_to,
    take_up_news,
)
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit
from feedback_store.feedback import history
from feedback_store.inbox_search import InboxFilter, Order
from feedback_store.replies import get_reply
from feedback_store.reply_story import ReplyStory, reply_story
from feedback_store.review import ReviewAct, ReviewConflict, Target
from feedback_store.schema import now

routes = Routes()


class CorrectForm(Form):
    """What the reply should have been."""

    correction: str = ""
    revision: int
    reason: str = ""
    back: str = ""


class NoteForm(Form):
    """A note for other operators."""

    note: str = ""
    back: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    story: ReplyStory
    before: str | None
    after: str | None
    last: list[ReviewAct]


@routes.on("GET /dashboard/inbox/{reply_id}")
async def show_reply(visit: Visit) -> Response:
    """Show one reply, with the way to the next one of the list that it was opened from."""
    return await show_story(visit, visit.word("reply_id"), visit.query(InboxQuery))


@routes.on("POST /dashboard/inbox/{reply_id}/correct")
async def correct_reply(visit: Visit) -> Response:
    """Write what the reply should have been; it is approved at once."""
    reply_id, form = visit.word("reply_id"), await visit.form(CorrectForm)
    logged = visit.act("reply.correct", f"reply {reply_id}", form.reason)
    target = Target(reply_id, form.revision)
    try:
        await visit.write(logged, review.correct, target, form.correction, actor=visit.actor, reason=form.reason)
    except ReviewConflict as conflict:
        return await after_conflict(visit, conflict, form.back, reply_id)
    return back_to(visit, form.back, reply_id)


@routes.on("POST /dashboard/inbox/{reply_id}/note")
async def note_reply(visit: Visit) -> Response:
    """Write a note."""
    reply_id, form = visit.word("reply_id"), await visit.form(NoteForm)
    logged = visit.act("reply.note", f"reply {reply_id}")
    await visit.write(logged, review.note, reply_id, form.note, actor=visit.actor)
    return back_to(visit, form.back, reply_id)


@routes.topic("reply", "operator")
def reply_pulse(connection: Connection, which: str) -> str:
    """Changes with every vote on the reply and every act on it."""
    reply = get_reply(connection, which)
    acts = history(connection, reply_id=which)
    if reply.comparison_id is not None:
        acts += history(connection, comparison_id=reply.comparison_id)
    return f"{len(acts)} {len(review.acts_on(connection, which))}"


async def show_story(
    visit: Visit, reply_id: str, query: InboxQuery, conflict: ReviewConflict | None = None
) -> Response:
    """Show everything about a reply; with `conflict`, who was first."""
    await take_up_news(visit)
    found = await visit.read(_read, reply_id, query.wanted(), query.order, visit.actor)
    return visit.render(
        "inbox_reply.html",
        200 if conflict is None else 409,
        found=found,
        story=found.story,
        query=query,
        back=urlencode(query.fields()),
        question=inbox_search.question_of(found.story.reply.messages),
        conflict=conflict,
        words_of_acts=WORDS_OF_ACTS,
    )


def _read(connection: Connection, reply_id: str, wanted: InboxFilter, order: Order, actor: str) -> _Found:
    story = reply_story(connection, reply_id)
    other: Order = "oldest" if order == "newest" else "newest"
    before = inbox_search.search(connection, wanted, after=reply_id, limit=1, order=other).items
    after = inbox_search.search(connection, wanted, after=reply_id, limit=1, order=order).items
    return _Found(
        story,
        before[0].reply_id if before else None,
        after[0].reply_id if after else None,
        review.last_batch_of(connection, actor, now() - UNDO_FOR),
    )
