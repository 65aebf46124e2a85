"""Versions: their lineage, where each serves, what people say of them, and moving the live pointer or the canary.

Every move takes a typed reason and the version that its page showed as live: a stale page or a double click moves
nothing, and shows how it stands now.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from feedback_store import audit, feedback, health, rounds, side_by_sides, versions, win_rates
from feedback_store.audit import AuditEntry
from feedback_store.bradley_terry import Standing
from feedback_store.connection import Connection
from feedback_store.dashboard import gates, wording
from feedback_store.dashboard.charts import Chart, Point, Whisker, line_chart, whisker
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.lineage import lineage
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.side_by_sides import comparing
from feedback_store.dashboard.visit import Visit
from feedback_store.errors import Conflict
from feedback_store.health import VersionFigures
from feedback_store.lineage import lineage as line_of
from feedback_store.pages.language import to_translate
from feedback_store.records import Canary, Deployment, Feedback, PolicyVersion

routes = Routes()
PROMOTED = routes.notice("promoted", to_translate("It is live: new replies are of it from now on."))
ROLLED_BACK = routes.notice("rolled-back", to_translate("The version before is live again."))
CANARY = routes.notice("canary-begun", to_translate("It answers its share of the conversations from now on."))
CANARY_STOPPED = routes.notice("canary-stopped", to_translate("The live version answers everybody again."))
HELD = routes.notice("held", to_translate("Noted: all stays as it is."))

ACTS = {
    "bootstrap": to_translate("first version"),
    "promote": to_translate("promoted"),
    "rollback": to_translate("rolled back"),
    "canary": to_translate("canary"),
    "canary_stop": to_translate("canary ended"),
}
MOST_TRAINED_ON = 200
NO_VERSION = 0
"""What a page shows as live before there is a version."""


@dataclass(frozen=True, slots=True)
class Everything:
    """What the page of versions shows."""

    versions: list[PolicyVersion]
    live: PolicyVersion | None
    canary: Canary | None
    moves: list[Deployment]
    before: int | None
    """What a rollback would bring back."""


class MoveForm(Form):
    """Why the pointer moves, and what was seen as live when that was decided."""

    reason: str = Field(min_length=1, max_length=1000)
    expected_live: int = NO_VERSION
    force: bool = False


class CanaryForm(MoveForm):
    """The share of the conversations, in percent."""

    share: float = Field(ge=0, lt=100, allow_inf_nan=False)


class StopForm(Form):
    """Why the canary ends, or stays, and which one was seen."""

    reason: str = Field(min_length=1, max_length=1000)
    expected_canary: int
    hold: bool = False


@routes.topic("versions", "operator")
def pulse(connection: Connection, which: str) -> str:
    """Changes with every version and every move."""
    newest = versions.list_versions(connection)[:1]
    return f"{versions.pointer_revision(connection)} {[(one.version, one.state) for one in newest]}"


@routes.on("GET /dashboard/versions")
async def list_versions(visit: Visit) -> Response:
    """Show all versions, and what may be done with them."""
    everything = await visit.read(read_everything)
    figures, rates, canary = await asyncio.gather(
        visit.soon("by_version", lambda: visit.read(health.by_version)),
        visit.soon("win_rates", lambda: visit.read(win_rates.win_rates)),
        _canary_course(visit, everything),
    )
    shares = _shares(visit, everything)
    return visit.render(
        "versions.html",
        every=everything,
        rates=rates,
        states={one.version: one.state for one in everything.versions},
        rate_pictures={one.version: _rate_picture(one) for one in rates or ()},
        canary=canary,
        canary_chart=_canary_chart(visit, canary),
        lineage=lineage(everything.versions, shares),
        counting=figures is None,
        figures=figures or {},
        pictures={version: _picture(one) for version, one in (figures or {}).items()},
        acts=ACTS,
        forced={one.version for one in everything.moves if one.forced},
        pulse=await visit.read(pulse, ""),
    )


@routes.on("GET /dashboard/versions/{version}")
async def show_version(visit: Visit) -> Response:
    """Show one version: what made it, what it learnt from, what became of it."""
    number = visit.number("version")
    one = await visit.read(versions.get_version, number)
    everything = await visit.read(read_everything)
    figures = await visit.soon("by_version", lambda: visit.read(health.by_version))
    learnt, held_out, acts = await visit.read(_learnt_from, one.round_id)
    found = (figures or {}).get(number)
    return visit.render(
        "version.html",
        one=one,
        every=everything,
        counting=figures is None,
        figures=found,
        picture=_picture(found) if found else None,
        checks=gates.checks_of(visit, one.gate_report),
        children=[other for other in everything.versions if other.parent == number],
        moves=[move for move in everything.moves if number in (move.version, move.from_version)],
        notes=await visit.read(_notes, number),
        acts=ACTS,
        learnt=learnt,
        line=await visit.read(line_of, number),
        held_out=held_out,
        trained_on=acts,
        compared=await visit.read(comparing, number, visit.actor),
        least=side_by_sides.FEWEST_VOTES,
        forced={move.version for move in everything.moves if move.forced},
        pulse=await visit.read(pulse, ""),
    )


@routes.on("POST /dashboard/versions/{version}/promote")
async def promote(visit: Visit) -> Response:
    """Make a version live."""
    number, form = visit.number("version"), await visit.form(MoveForm)
    act = visit.act("version.promote", f"version {number}", form.reason, details={"force": form.force})

    async def move() -> None:
        await run_in_threadpool(visit.parts.prepare_version, number)
        await visit.write(
            act, versions.promote, number, actor=visit.user.name, reason=form.reason, forced=form.force,
            expected_live=form.expected_live,
        )  # fmt: skip

    await visit.read(versions.get_version, number)
    return await _moved(visit, move, PROMOTED)


@routes.on("POST /dashboard/versions/roll-back")
async def roll_back(visit: Visit) -> Response:
    """Bring back the version that was live before."""
    form = await visit.form(MoveForm)
    act = visit.act("version.rollback", f"version {form.expected_live}", form.reason)

    async def move() -> None:
        target = await visit.read(versions.rollback_target)
        await run_in_threadpool(visit.parts.prepare_version, target)
        await visit.write(
            act, versions.rollback, actor=visit.user.name, reason=form.reason, expected_live=form.expected_live
        )

    return await _moved(visit, move, ROLLED_BACK)


@routes.on("POST /dashboard/versions/{version}/canary")
async def start_canary(visit: Visit) -> Response:
    """Let a version answer a share, or another share than until now."""
    number, form = visit.number("version"), await visit.form(CanaryForm)
    share = form.share / 100
    act = visit.act("version.canary", f"version {number}", form.reason, details={"share": share})

    async def move() -> None:
        await run_in_threadpool(visit.parts.prepare_version, number)
        await visit.write(
            act, versions.start_canary, number, share, actor=visit.user.name, reason=form.reason,
            expected_live=form.expected_live,
        )  # fmt: skip

    await visit.read(versions.get_version, number)
    return await _moved(visit, move, CANARY)


@routes.on("POST /dashboard/versions/canary/stop")
async def stop_canary(visit: Visit) -> Response:
    """End the canary; or hold: note why it stays as it is."""
    form = await visit.form(StopForm)
    target = f"version {form.expected_canary}"
    if form.hold:
        await visit.write(visit.act("version.hold", target, form.reason), _still_canary, form.expected_canary)
        return visit.go("/dashboard/versions", done=HELD)
    act = visit.act("version.canary_stop", target, form.reason)

    async def move() -> None:
        await visit.write(
            act, versions.stop_canary, actor=visit.user.name, reason=form.reason, expected_canary=form.expected_canary
        )

    return await _moved(visit, move, CANARY_STOPPED)


async def _moved(visit: Visit, move: Callable[[], Any], done: str) -> Response:
    conflicts: tuple[type[Exception], ...] = (Conflict, *visit.parts.conflicts)
    try:
        await move()
    except conflicts as conflict:
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back="/dashboard/versions")
    await run_in_threadpool(visit.parts.on_pointer_moved)
    return visit.go("/dashboard/versions", done=done)


def read_everything(connection: Connection) -> Everything:
    """Read versions, pointer, canary and the log of moves, at one moment."""
    try:
        before: int | None = versions.rollback_target(connection)
    except (Conflict, LookupError):
        before = None
    return Everything(
        versions.list_versions(connection),
        versions.live_or_none(connection),
        versions.canary(connection),
        versions.deployments(connection, 200),
        before,
    )


def _still_canary(connection: Connection, expected: int) -> None:
    present = versions.canary(connection)
    if present is None or present.version.version != expected:
        raise Conflict(f"version {expected} is not the canary any more: look again, then decide")


def _learnt_from(connection: Connection, round_id: int | None) -> tuple[int, int, list[Feedback]]:
    """How many acts a round trained on and held out, and the newest of those it trained on."""
    if round_id is None:
        return 0, 0, []
    chosen = rounds.selection(connection, round_id)
    trained = [feedback_id for feedback_id, split in chosen if split == "train"]
    return len(trained), len(chosen) - len(trained), feedback.get_feedback(connection, trained[-MOST_TRAINED_ON:])[::-1]


def _notes(connection: Connection, number: int) -> list[AuditEntry]:
    """Decisions to leave it as it is."""
    held = audit.entries(connection, action="version.hold", limit=200)
    return [entry for entry in held if entry.target == f"version {number}"]


def _shares(visit: Visit, every: Everything) -> dict[int, str]:
    """Where each version serves, in words."""
    beside = every.canary.share if every.canary else 0.0
    found = {}
    if every.live is not None:
        found[every.live.version] = wording.share(1 - beside, visit.language)
    if every.canary is not None:
        found[every.canary.version.version] = wording.share(beside, visit.language)
    return found


async def _canary_course(visit: Visit, every: Everything) -> Mapping[str, Any] | None:
    """The trainer's report; empty where no trainer makes one, None while it is being worked out."""
    if every.canary is None:
        return None
    key = ("canary", every.canary.version.version)

    async def course() -> Mapping[str, Any]:
        return await run_in_threadpool(visit.parts.canary_course) or {}

    return await visit.soon(key, course)


def _canary_chart(visit: Visit, canary: Mapping[str, Any] | None) -> Chart | None:
    """The win rate over comparisons as they came, in its band."""
    points = [
        Point(float(n), rate, visit.say("comparison %(n)s", n=n), low, high)
        for n, rate, low, high in (canary or {}).get("course", ())
    ]
    title = visit.say("Comparisons that the canary won, as they came")

    def spoken(value: float) -> str:
        return wording.share(value, visit.language)

    return line_chart(title, [("", points)], spoken, floor=0, ceiling=1, threshold=0.5)


def _rate_picture(one: Standing) -> Whisker | None:
    return None if one.win_rate is None else whisker(one.win_rate, one.interval, (0.0, 1.0), (0.5,))


def _picture(figures: VersionFigures) -> Whisker | None:
    return None if figures.rate is None else whisker(figures.rate, figures.interval, (0.0, 1.0), (0.5,))
