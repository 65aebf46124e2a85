"""Blind comparison of a candidate's replies with the live version's, what people said of them, and the veto.

One pair at a time, without a hint which is which: the store decides the sides (feedback_store/side_by_sides.py). What
people said, and which side was the candidate's, a viewer sees after their own last vote, or when they ask for it.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from feedback_store import oversight, side_by_sides, versions
from feedback_store.connection import Connection
from feedback_store.dashboard.charts import Whisker, whisker
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit
from feedback_store.errors import Conflict
from feedback_store.pages.language import to_translate
from feedback_store.raters import staff_rater_id
from feedback_store.records import PolicyVersion
from feedback_store.side_by_sides import Side, SideBySide, SideBySideResult

routes = Routes()
VETOED = routes.notice("vetoed", to_translate("It is vetoed: it neither goes live nor becomes a canary."))
LIFTED = routes.notice("veto-lifted", to_translate("The veto is lifted."))


class PairQuery(Form):
    """Which pair is shown; none: the first without a vote. `result`: what people said, now."""

    pair: int | None = Field(default=None, ge=1, le=1000)
    result: Literal["yes"] | None = None


class VoteForm(Form):
    """Which side of a pair is better. `pair` counts from 1."""

    pair: int = Field(ge=1, le=1000)
    choice: Side


class VetoForm(Form):
    """Why."""

    reason: str = Field(min_length=1, max_length=side_by_sides.MOST_REASON_CHARACTERS)


@dataclass(frozen=True, slots=True)
class Comparing:
    """How far one viewer is with a version's pairs."""

    pairs: tuple[SideBySide, ...]
    result: SideBySideResult
    candidate_on: dict[int, Side]

    @property
    def left(self) -> list[SideBySide]:
        """Pairs that this viewer has not voted on."""
        return [pair for pair in self.pairs if pair.voted is None]

    @property
    def is_open(self) -> bool:
        """Whether this viewer has seen everything, so that nothing needs to be hidden from them any more."""
        return not self.left

    @property
    def picture(self) -> Whisker | None:
        """The win rate with its interval on a scale from 0 to 1."""
        rate = self.result.win_rate
        return None if rate is None else whisker(rate, self.result.interval, (0.0, 1.0), (0.5,))


def comparing(connection: Connection, version: int, actor: str) -> Comparing:
    """Read the pairs of a version as a person of the dashboard sees them. Raises NotFound."""
    viewer = staff_rater_id(actor)
    return Comparing(
        tuple(side_by_sides.side_by_sides(connection, version, viewer)),
        side_by_sides.side_by_side_result(connection, version),
        side_by_sides.reveal(connection, version, viewer),
    )


@routes.on("GET /dashboard/versions/{version}/side-by-sides")
async def compare(visit: Visit) -> Response:
    """Show the next pair, or what people said."""
    number, wanted = visit.number("version"), visit.query(PairQuery)
    one: PolicyVersion = await visit.read(versions.get_version, number)
    found = await visit.read(comparing, number, visit.actor)
    pair = _pair(found, wanted)
    return visit.render(
        "side_by_side.html",
        one=one,
        found=found,
        pair=pair,
        place=None if pair is None else found.pairs.index(pair) + 1,
        least=side_by_sides.FEWEST_VOTES,
        live=await visit.read(versions.live_or_none),
    )


@routes.on("POST /dashboard/versions/{version}/side-by-sides")
async def vote(visit: Visit) -> Response:
    """Take a vote, and show the next pair."""
    number, form = visit.number("version"), await visit.form(VoteForm)
    act = visit.act("version.compare", f"version {number}", details={"pair": form.pair})
    await visit.write(act, side_by_sides.vote, number, form.pair - 1, staff_rater_id(visit.actor), form.choice)
    return visit.go(f"/dashboard/versions/{number}/side-by-sides")


@routes.on("POST /dashboard/versions/{version}/veto")
async def veto(visit: Visit) -> Response:
    """Forbid a version to serve, with a typed reason; a canary ends with it."""
    number, form = visit.number("version"), await visit.form(VetoForm)
    act = visit.act("version.veto", f"version {number}", form.reason)
    back = f"/dashboard/versions/{number}"
    try:
        await visit.write(act, oversight.veto_version, number, actor=visit.user.name, reason=form.reason)
    except Conflict as conflict:
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back=back)
    await run_in_threadpool(visit.parts.on_pointer_moved)
    return visit.go(back, done=VETOED)


@routes.on("POST /dashboard/versions/{version}/lift-veto")
async def lift_veto(visit: Visit) -> Response:
    """Take a veto back."""
    number = visit.number("version")
    back = f"/dashboard/versions/{number}"
    try:
        await visit.write(visit.act("version.lift_veto", f"version {number}"), side_by_sides.lift_veto, number)
    except Conflict as conflict:
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back=back)
    return visit.go(back, done=LIFTED)


def _pair(found: Comparing, wanted: PairQuery) -> SideBySide | None:
    if wanted.result:
        return None
    if wanted.pair is not None and wanted.pair <= len(found.pairs):
        return found.pairs[wanted.pair - 1]
    return next(iter(found.left), None)
