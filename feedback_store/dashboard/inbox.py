"""Inbox: replies with feedback, filtered by what stands in the address, and what operators do to many of them.

Each row carries the revision that was seen, so the late one of two operators gets the fresh list and who was first.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from feedback_store import inbox_search, saved_views
from feedback_store.connection import Connection
from feedback_store.dashboard.forms import LARGEST_NUMBER, Form, parse_form
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit
from feedback_store.errors import Conflict, Refused
from feedback_store.inbox import Said, news_waits
from feedback_store.inbox_search import InboxFilter, InboxPage, Order
from feedback_store.pages.language import to_translate
from feedback_store.records import FeedbackKind
from feedback_store.review import (
    MOST_AT_ONCE,
    Action,
    ReviewAct,
    ReviewConflict,
    Target,
    act,
    last_batch_of,
    recent_acts,
    undo,
)
from feedback_store.saved_views import SavedView
from feedback_store.schema import now

routes = Routes()
YesNo = Literal["yes", "no"]
SMALL_NEWS, SMALL_NEWS_TIME_S = 100, 1.0
"""So few lines are in within milliseconds: a visit waits for them, and shows what was said a moment ago."""
NEWS_TIME_S = 0.05
"""How long a visit waits for more than that; the page says how much is still to come."""
UNDO_FOR = timedelta(minutes=30)
SAVED = routes.notice("view-saved", to_translate("The view is saved."))
DELETED = routes.notice("view-deleted", to_translate("The view is gone."))


class InboxQuery(Form):
    """The address of a list. Also what a saved view holds, less `after`."""

    version: int | None = None
    channel: str | None = None
    kind: FeedbackKind | None = None
    verdict: Said | None = None
    rater: str | None = None
    since: date | None = None
    until: date | None = None
    q: str = ""
    flagged: YesNo | None = None
    disputed: YesNo | None = None
    excluded: YesNo | None = None
    pending: YesNo | None = None
    order: Order = "newest"
    after: str | None = None

    def wanted(self) -> InboxFilter:
        """Return the filter of the store. Raises Refused."""
        return InboxFilter(
            version=self.version,
            channel=self.channel,
            kind=self.kind,
            verdict=self.verdict,
            rater=self.rater,
            since=_midnight(self.since),
            until=None if self.until is None else _midnight(self.until + timedelta(days=1)),
            words=self.q,
            flagged=_yes(self.flagged),
            disputed=_yes(self.disputed),
            excluded=_yes(self.excluded),
            pending=_yes(self.pending),
        )

    def fields(self, **changes: str | None) -> dict[str, str]:
        """Return the fields that ask for something, changed as said; `after` only if it is among the changes."""
        found = {name: str(value) for name, value in self if value not in (None, "")} | {"after": ""}
        if found["order"] == "newest":
            del found["order"]
        return {name: value for name, value in (found | changes).items() if value}

    def address(self, **changes: str | None) -> str:
        """Return the address of this list with some fields changed, on its first page."""
        query = urlencode(self.fields(**changes))
        return f"/dashboard/inbox?{query}" if query else "/dashboard/inbox"


class ActForm(Form):
    """Something done to replies, or to feedback on one: `target` is REPLY:REVISION or REPLY:REVISION:FEEDBACK."""

    action: Action
    target: tuple[str, ...] = ()
    all: int | None = None
    """Not what is ticked but all that the list finds: as many as it said."""
    reason: str = ""
    back: str = ""
    """The list's query, to come back to."""
    page: str | None = None
    """The reply whose page this was done on."""


class UndoForm(Form):
    """A batch to undo."""

    batch: str
    back: str = ""
    page: str | None = None


class ViewForm(Form):
    """A name for a list."""

    name: str = ""
    back: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    page: InboxPage
    channels: list[str]
    versions: list[int]
    views: list[SavedView]
    last: list[ReviewAct]


@routes.on("GET /dashboard/inbox")
async def show_inbox(visit: Visit) -> Response:
    """Show the replies that the address asks for."""
    return await _list(visit, visit.query(InboxQuery))


@routes.on("POST /dashboard/inbox/act")
async def act_on_replies(visit: Visit) -> Response:
    """Flag, exclude, restore, approve, reject … all targets or none."""
    form = await visit.form(ActForm)
    if form.all is not None:
        return await _act_on_all(visit, form, form.all)
    if not form.target:
        raise Refused("target", "no reply is chosen; wanted: tick at least one")
    targets = [_target(text) for text in form.target]
    names = sorted({target.reply_id for target in targets})
    logged = visit.act(
        f"reply.{form.action}", f"reply {names[0]}" if len(names) == 1 else f"{len(names)} replies", form.reason,
        details={"targets": list(form.target)[:50]},
    )  # fmt: skip
    try:
        await visit.write(logged, act, form.action, targets, actor=visit.actor, reason=form.reason)
    except ReviewConflict as conflict:
        return await after_conflict(visit, conflict, form.back, form.page)
    return back_to(visit, form.back, form.page)


async def _act_on_all(visit: Visit, form: ActForm, expected: int) -> Response:
    query = query_of(form.back)
    await take_up_news(visit)

    def act_on_all(connection: Connection) -> None:
        found = inbox_search.matching(connection, query.wanted(), MOST_AT_ONCE + 1)
        if len(found) != expected:
            raise Conflict(f"the list finds {len(found)} replies now, it said {expected}: nothing was done")
        targets = [Target(reply_id, revision) for reply_id, revision in found]
        act(connection, form.action, targets, actor=visit.actor, reason=form.reason)

    logged = visit.act(f"reply.{form.action}", f"{expected} replies", form.reason, details={"found_by": form.back})
    await visit.write(logged, act_on_all)
    return back_to(visit, form.back, None)


@routes.on("POST /dashboard/inbox/undo")
async def undo_acts(visit: Visit) -> Response:
    """Undo what one press did."""
    form = await visit.form(UndoForm)
    try:
        await visit.write(visit.act("reply.undo", f"batch {form.batch}"), undo, form.batch, actor=visit.actor)
    except ReviewConflict as conflict:
        return await after_conflict(visit, conflict, form.back, form.page)
    return back_to(visit, form.back, form.page)


@routes.on("POST /dashboard/inbox/views")
async def save_view(visit: Visit) -> Response:
    """Save the present list under a name."""
    form = await visit.form(ViewForm)
    query = urlencode(query_of(form.back).fields())
    logged = visit.act("view.save", f"view {form.name[:60]}")
    await visit.write(logged, saved_views.save_view, visit.actor, form.name, query)
    return visit.go("/dashboard/inbox", **query_of(form.back).fields(), done=SAVED)


@routes.on("POST /dashboard/inbox/views/{view_id}/delete")
async def delete_view(visit: Visit) -> Response:
    """Delete one of one's own views."""
    number = visit.number("view_id")
    await visit.write(visit.act("view.delete", f"view {number}"), saved_views.delete_view, visit.actor, number)
    return visit.go("/dashboard/inbox", done=DELETED)


@routes.topic("inbox", "operator")
def inbox_pulse(connection: Connection, which: str) -> str:
    """What other operators do shows at once; new votes do not move the list under somebody who reads it."""
    newest = recent_acts(connection, 1)
    return str(newest[0].act_id if newest else 0)


def query_of(text: str) -> InboxQuery:
    """Read the query of a list out of a form's `back`. Raises Refused."""
    return parse_form(parse_qsl(text[:4000]), InboxQuery)


def back_to(visit: Visit, back: str, reply_id: str | None) -> Response:
    """Answer an act: with the reply's page if it was done there, else with the list."""
    query = query_of(back)
    if reply_id is not None:
        return visit.go(f"/dashboard/inbox/{_target(f'{reply_id}:0').reply_id}", **query.fields())
    return visit.go("/dashboard/inbox", **query.fields(after=query.after))


async def after_conflict(visit: Visit, conflict: ReviewConflict, back: str, reply_id: str | None) -> Response:
    """Show how it stands now, and who was first."""
    if reply_id is not None:
        from feedback_store.dashboard.inbox_reply import show_story

        return await show_story(visit, _target(f"{reply_id}:0").reply_id, query_of(back), conflict)
    return await _list(visit, query_of(back), conflict)


async def take_up_news(visit: Visit) -> int:
    """Let the inbox take up what came since, and return how many lines still wait: those are taken up meanwhile."""
    waits = await visit.read(news_waits, SMALL_NEWS + 1)
    if waits == 0:
        return 0
    patience_s = NEWS_TIME_S if waits > SMALL_NEWS else SMALL_NEWS_TIME_S
    if await run_in_threadpool(visit.pages.inbox_keeper.refresh, patience_s):
        return 0
    return await visit.read(news_waits)


async def _list(visit: Visit, query: InboxQuery, conflict: ReviewConflict | None = None) -> Response:
    wanted = query.wanted()
    waiting = await take_up_news(visit)
    # Two connections at once: each is a pass over the same rows, and the database has more than one core.
    found, counts = await asyncio.gather(
        visit.read(_read, wanted, query, visit.actor), visit.read(inbox_search.count, wanted)
    )
    return visit.render(
        "inbox.html",
        200 if conflict is None else 409,
        query=query,
        back=urlencode(query.fields(after=query.after)),
        found=found,
        counts=counts,
        asked=_asked(visit, query),
        conflict=conflict,
        waiting=waiting,
        most_at_once=MOST_AT_ONCE,
        words_of_acts=WORDS_OF_ACTS,
        verdict_words=VERDICT_WORDS,
        kind_words=KIND_WORDS,
    )


def _read(connection: Connection, wanted: InboxFilter, query: InboxQuery, actor: str) -> _Found:
    return _Found(
        inbox_search.search(connection, wanted, after=query.after, order=query.order),
        inbox_search.channels(connection),
        inbox_search.versions_with_feedback(connection),
        saved_views.list_views(connection, actor),
        last_batch_of(connection, actor, now() - UNDO_FOR),
    )


WORDS_OF_ACTS = {
    "flag": to_translate("flagged"),
    "unflag": to_translate("took the flag off"),
    "exclude": to_translate("excluded"),
    "restore": to_translate("restored"),
    "correct": to_translate("corrected"),
    "approve": to_translate("approved a correction"),
    "reject": to_translate("rejected a correction"),
    "note": to_translate("noted"),
    "undo": to_translate("undid"),
}
VERDICT_WORDS = {
    "up": to_translate("thumbs up"),
    "down": to_translate("thumbs down"),
    "won": to_translate("preferred"),
    "lost": to_translate("not preferred"),
    "tie": to_translate("tie"),
    "both_bad": to_translate("all bad"),
}
KIND_WORDS = {
    "thumb": to_translate("thumbs"),
    "verdict": to_translate("verdicts"),
    "ranking": to_translate("rankings"),
    "correction": to_translate("corrections"),
}
_MARKS = {
    "flagged": (to_translate("flagged"), to_translate("not flagged")),
    "disputed": (to_translate("disputed"), to_translate("not disputed")),
    "excluded": (to_translate("excluded"), to_translate("not excluded")),
    "pending": (to_translate("corrections to decide"), to_translate("no corrections to decide")),
}


def _asked(visit: Visit, query: InboxQuery) -> list[tuple[str, str]]:
    """What the list is narrowed to, each in words with the address of the list without it."""
    words: dict[str, str] = {}
    if query.version is not None:
        words["version"] = visit.say("version %(n)s", n=query.version)
    if query.verdict is not None:
        words["verdict"] = visit.say(VERDICT_WORDS[query.verdict])
    if query.kind is not None:
        words["kind"] = visit.say(KIND_WORDS[query.kind])
    if query.channel is not None:
        words["channel"] = visit.say("channel %(name)s", name=query.channel)
    if query.rater is not None:
        words["rater"] = visit.say("rater %(name)s", name=query.rater[:10])
    if query.since is not None:
        words["since"] = visit.say("from %(day)s", day=query.since.isoformat())
    if query.until is not None:
        words["until"] = visit.say("to %(day)s", day=query.until.isoformat())
    for name, (yes, no) in _MARKS.items():
        asked: YesNo | None = getattr(query, name)
        if asked is not None:
            words[name] = visit.say(yes if asked == "yes" else no)
    if query.q:
        words["q"] = f"“{query.q}”"
    return [(said, query.address(**{name: None})) for name, said in words.items()]


def _target(text: str) -> Target:
    """Read REPLY:REVISION[:FEEDBACK]. Raises Refused."""
    reply_id, *numbers = text.split(":")
    known = all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers)
    named = 0 < len(reply_id) <= 64 and reply_id.isascii() and reply_id.replace("-", "a").isalnum()
    if not named or not known or len(numbers) not in (1, 2) or int(numbers[0]) > LARGEST_NUMBER:
        raise Refused("target", "target cannot be read; wanted: REPLY:REVISION or REPLY:REVISION:FEEDBACK")
    return Target(reply_id, int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else None)


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)


def _yes(word: YesNo | None) -> bool | None:
    return None if word is None else word == "yes"
