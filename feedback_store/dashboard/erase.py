"""Erase a person who asks for it: what would go is shown first, then it is confirmed by typing, then there is a report.

The report is the line of the log: it says how much went and which versions learnt from it, and names nobody.
"""

import re
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from feedback_store import audit
from feedback_store.connection import Connection
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit
from feedback_store.erasures import get_erasure
from feedback_store.errors import NotFound
from feedback_store.rater_data import ErasurePlan, erase_rater, plan_erasure
from feedback_store.retiring import live_without, retire_learnt
from feedback_store.side_by_sides import is_vetoed

routes = Routes()
ID = re.compile(r"[a-z0-9-]{1,64}")
TYPED_CHARACTERS = 8
ACTION = "rater.erase"


class WhoForm(Form):
    """Whose id was typed."""

    rater_id: str = Field(default="", max_length=200)


class EraseForm(Form):
    """The beginning of the id, typed by hand: it says that this very person is meant."""

    typed: str = Field(default="", max_length=200)


class RetireForm(Form):
    """Whether a round is to make up for the versions that go."""

    retrain: bool = False


@routes.on("GET /dashboard/people/erase")
async def ask_who(visit: Visit) -> Response:
    """Ask for the id, and lead to what would be erased."""
    wanted = visit.query(WhoForm).rater_id.lower()
    if not wanted:
        return _page(visit, None)
    if ID.fullmatch(wanted) and await visit.read(plan_erasure, wanted) is not None:
        return visit.go(f"/dashboard/people/{wanted}/erase")
    return _page(visit, None, 404, visit.say("Nobody has this id. Look whether it is whole."), wanted)


@routes.on("GET /dashboard/people/{rater_id}/erase")
async def show_plan(visit: Visit) -> Response:
    """Show what would be erased."""
    return _page(visit, await _plan(visit))


@routes.on("POST /dashboard/people/{rater_id}/erase")
async def erase(visit: Visit) -> Response:
    """Erase, once the id's beginning was typed."""
    plan, form = await _plan(visit), await visit.form(EraseForm)
    if form.typed.lower() not in (plan.rater.rater_id, plan.rater.rater_id[:TYPED_CHARACTERS]):
        return _page(visit, plan, 400, visit.say("This is not how the id begins. Nothing was erased."))
    audit_id = await visit.parts.store.write_async(_erase, visit.actor, plan.rater.rater_id, plan.rater.channel)
    visit.pages.memory.forget("people", "readiness", "by_version")
    return visit.go(f"/dashboard/people/erased/{audit_id}")


@routes.on("GET /dashboard/people/erased/{audit_id}")
async def show_report(visit: Visit) -> Response:
    """Show what was erased: nothing in it says whose."""
    entry = await visit.read(audit.get_entry, visit.number("audit_id"), ACTION)
    if "versions" not in entry.details:
        raise NotFound("this erasure was asked for over the API, which was answered with its report")
    number = entry.details.get("erasure")  # None: of a program that did not number them yet
    erasure = None if number is None else await visit.read(get_erasure, number)
    return visit.render(
        "erased.html", entry=entry, erasure=erasure, standing=await visit.read(_standing, entry.details)
    )


@routes.on("POST /dashboard/people/erased/{audit_id}/retire")
async def retire(visit: Visit) -> Response:
    """Keep what had learnt from the erased person from serving, and ask for a round if the box is ticked."""
    entry = await visit.read(audit.get_entry, visit.number("audit_id"), ACTION)
    form = await visit.form(RetireForm)
    if entry.details.get("erasure") is None:
        raise NotFound("this erasure has no number: it was done by an older program. Veto its versions one by one")
    number = int(entry.details["erasure"])
    taught = (await visit.read(get_erasure, number)).versions
    await run_in_threadpool(visit.parts.prepare_version, await visit.read(live_without, taught))
    act = visit.act("rater.retire_versions", f"erasure {number}", details={"versions": taught})
    await visit.write(act, retire_learnt, number, actor=visit.user.name, retrain=form.retrain)
    await run_in_threadpool(visit.parts.on_pointer_moved)
    return visit.go(f"/dashboard/people/erased/{entry.audit_id}")


def _standing(connection: Connection, details: dict[str, Any]) -> list[int]:
    """Versions that had learnt from the erased person and may still serve."""
    return [version for version in details["versions"] if not is_vetoed(connection, version)]


async def _plan(visit: Visit) -> ErasurePlan:
    plan = await visit.read(plan_erasure, visit.word("rater_id"))
    if plan is None:
        raise NotFound("no such rater, or they were erased already")
    return plan


def _erase(connection: Connection, actor: str, rater_id: str, channel: str) -> int:
    """Erase and write down how much it was, both or neither."""
    if plan_erasure(connection, rater_id) is None:
        raise NotFound("somebody has erased this person already")
    found = erase_rater(connection, rater_id)
    details = {
        "channel": channel,
        "replies": found.replies,
        "feedback": found.feedback,
        "versions": found.affected_versions,
        "erasure": found.erasure_id,
    }
    return audit.record(connection, audit.Act(actor, ACTION, audit.ERASED_RATER, details=details))


def _page(visit: Visit, plan: ErasurePlan | None, status: int = 200, problem: str = "", typed: str = "") -> Response:
    return visit.render("erase.html", status, plan=plan, problem=problem, typed=typed)
