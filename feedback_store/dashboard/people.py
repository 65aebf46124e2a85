"""People: raters by hashed id, what they do, signals of abuse, and leaving somebody's votes out of rounds."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from starlette.responses import Response

from feedback_store import audit, quarantines, rater_activity, raters
from feedback_store.connection import Connection
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit
from feedback_store.errors import Conflict, NotFound
from feedback_store.pages.language import to_translate
from feedback_store.rater_activity import Activity
from feedback_store.records import Rater

routes = Routes()
QUARANTINED = routes.notice("quarantined", to_translate("Their votes are left out of rounds from now on."))
RELEASED = routes.notice("released", to_translate("Their votes count in rounds again."))

SIGNALS = {
    "flood": (to_translate("flood"), to_translate("far more acts than a round takes from one person")),
    "burst": (to_translate("burst"), to_translate("20 acts or more within a minute")),
    "alike": (to_translate("votes alike"), to_translate("judges the same replies the same way as somebody else")),
    "one_sided": (to_translate("one-sided"), to_translate("30 thumbs or more, all of one kind")),
}
QUARANTINE_SIGNALS = {
    "flood": to_translate("flood"),
    "ring": to_translate("votes alike"),
    "phrase": to_translate("a phrase planted"),
    "by_hand": to_translate("by hand"),
}
PAGE = 50


class Filter(Form):
    """Which raters are listed."""

    show: Literal["all", "signals", "quarantined"] = "all"
    page: int = Field(default=1, ge=1, le=10_000)


class QuarantineForm(Form):
    """Leave out or take back in, and why. `seen`: how the page showed it."""

    quarantined: bool
    seen: bool
    reason: str = Field(min_length=1, max_length=1000)


@dataclass(frozen=True, slots=True)
class Caps:
    """How many acts a round takes of one person: of a rater, and of one who annotates or reviews here."""

    rater: int
    staff: int

    @classmethod
    def of(cls, visit: Visit) -> "Caps":
        """Read them from the settings of rounds."""
        rounds = visit.parts.defaults.get("rounds", {})
        return cls(int(rounds.get("max_votes_per_rater", 10)), int(rounds.get("max_labels_per_annotator", 200)))

    def cap_of(self, rater_id: str) -> int:
        """Return this person's."""
        return self.staff if raters.is_staff(rater_id) else self.rater


@routes.on("GET /dashboard/people")
async def list_people(visit: Visit) -> Response:
    """List raters, the busiest first."""
    wanted = visit.query(Filter)
    everybody, counts = await asyncio.gather(
        visit.soon("people", lambda: visit.read(rater_activity.activities)), visit.read(rater_activity.counts)
    )
    caps = Caps.of(visit)
    found = [one for one in everybody or () if _is_wanted(one, wanted.show, caps)]
    start = (wanted.page - 1) * PAGE
    return visit.render(
        "people.html",
        people=found[start : start + PAGE],
        counting=everybody is None,
        wanted=wanted,
        pages=max(1, -(-len(found) // PAGE)),
        counts=counts,
        caps=caps,
        signals=SIGNALS,
    )


@routes.on("GET /dashboard/people/{rater_id}")
async def show_person(visit: Visit) -> Response:
    """Show one rater."""
    rater_id = visit.word("rater_id")
    rater = await visit.read(_rater, rater_id)
    everybody = await visit.soon("people", lambda: visit.read(rater_activity.activities))
    return visit.render(
        "person.html",
        rater=rater,
        one=next((one for one in everybody or () if one.rater_id == rater_id), Activity(rater_id)),
        counting=everybody is None,
        acts=await visit.read(rater_activity.acts_of, rater_id, 40),
        held=await visit.read(quarantines.quarantines_of, rater_id),
        signal_words=QUARANTINE_SIGNALS,
        notes=[note for note in await visit.read(_notes) if note.target == f"rater {rater_id}"],
        caps=Caps.of(visit),
        signals=SIGNALS,
    )


@routes.on("POST /dashboard/people/{rater_id}/quarantine")
async def quarantine(visit: Visit) -> Response:
    """Leave a rater's feedback out of rounds, or take it back in."""
    rater_id, form = visit.word("rater_id"), await visit.form(QuarantineForm)
    act = visit.act("rater.quarantine" if form.quarantined else "rater.release", f"rater {rater_id}", form.reason)
    back = f"/dashboard/people/{rater_id}"
    try:
        await visit.write(act, _quarantine, rater_id, form, visit.user.name)
    except Conflict as conflict:
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back=back)
    visit.pages.memory.forget("people", "readiness")
    return visit.go(back, done=QUARANTINED if form.quarantined else RELEASED)


def _quarantine(connection: Connection, rater_id: str, form: QuarantineForm, actor: str) -> None:
    if _rater(connection, rater_id).quarantined != form.seen:
        raise Conflict("somebody has changed this person's quarantine meanwhile")
    if form.quarantined:
        quarantines.begin_by_hand(connection, rater_id, reason=form.reason, begun_by=actor)
    else:
        quarantines.release_rater(connection, rater_id, actor=actor)


def _rater(connection: Connection, rater_id: str) -> Rater:
    found = raters.get_rater(connection, rater_id)
    if found is None:
        raise NotFound(f"no rater {rater_id}")
    return found


def _notes(connection: Connection) -> list[audit.AuditEntry]:
    return audit.entries(connection, action="rater.", limit=500)


def _is_wanted(one: Activity, show: str, caps: Caps) -> bool:
    if show == "quarantined":
        return one.quarantined
    return show == "all" or bool(one.signals(caps.cap_of(one.rater_id)))
