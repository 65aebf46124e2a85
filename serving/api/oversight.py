"""The admin's routes of oversight: the canary's evidence, lineage, people's look and veto, raters, quarantine."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from feedback_store import lineage, oversight, quarantines, side_by_sides, trust
from feedback_store.audit import Act, audited
from feedback_store.connection import Connection
from feedback_store.records import Quarantine
from serving.api.answers import Listing, answer
from serving.api.auth import ADMIN, Caller, caller_of
from serving.api.bodies import Identifier, StrictBody, read_body
from serving.api.context import context_of
from serving.api.versions import Reason, VersionNumber

router = APIRouter(tags=["oversight"], dependencies=ADMIN)

Viewer = Annotated[str, Query(pattern=r"^[a-z0-9-]{1,64}$")]
QuarantineNumber = Annotated[int, Path(ge=1, le=2**63 - 1)]


class SideBySideVoteBody(StrictBody):
    """Which of two replies a person likes better, without knowing whose they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"example": 0, "viewer": "olga", "choice": "left"}]})

    example: int = Field(ge=0, le=10_000)
    """The pair's number."""
    viewer: Identifier
    """Who looks; the sides are dealt anew for each."""
    choice: Literal["left", "right", "tie", "both_bad"]
    """The better side."""


class VetoBody(StrictBody):
    """Why a version must not serve."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "it is rude to beginners"}]})

    reason: Reason


class QuarantineBody(StrictBody):
    """An operator's word on a quarantine."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"decision": "released"}]})

    decision: Literal["released", "kept"]
    """released: its feedback may train again. kept: it never does."""


class NewQuarantineBody(StrictBody):
    """Whose feedback is to train nothing until somebody decides."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rater_id": "3f9a", "reason": "votes at random"}]})

    rater_id: Identifier
    """As the records name the rater."""
    reason: Reason
    feedback_id: int | None = Field(default=None, ge=1, le=2**63 - 1)
    """Only this act; without it everything of the rater."""


@dataclass(frozen=True, slots=True)
class LineageAnswer:
    """A version's line, newest first: versions, rounds, and the feedback that each trained on."""

    version: int
    line: tuple[lineage.Ancestor, ...]
    quarantined: tuple[int, ...]
    flags: tuple[str, ...]


@router.get("/v1/canary", responses={200: {"model": dict[str, Any]}})
async def read_canary(request: Request) -> Response:
    """Return how the canary stands: what the evidence says so far, and what would be done. `{"canary": null}` if none.

    Without a trainer on this server there are no figures.
    """
    context = context_of(request)
    found = await run_in_threadpool(context.canary_report)
    return answer({"canary": None} if found is None else found)


@router.get("/v1/versions/{version}/lineage", responses={200: {"model": LineageAnswer}})
async def read_lineage(request: Request, version: VersionNumber) -> Response:
    """Return what a version was trained on, itself and through its parents, and what is wrong with that by now."""
    found = await context_of(request).store.read_async(lineage.lineage, version)
    return answer(LineageAnswer(found.version, found.line, found.quarantined, found.flags))


@router.get("/v1/feedback/{feedback_id}/versions", responses={200: {"model": dict[str, Any]}})
async def read_feedback_versions(request: Request, feedback_id: QuarantineNumber) -> Response:
    """Return the versions that learnt from an act of feedback, themselves or through a parent."""
    found = await context_of(request).store.read_async(lineage.versions_of_feedback, [feedback_id])
    return answer({"feedback_id": feedback_id, "versions": found})


@router.get("/v1/versions/{version}/side-by-sides", responses={200: {"model": Listing[side_by_sides.SideBySide]}})
async def read_side_by_sides(request: Request, version: VersionNumber, viewer: Viewer) -> Response:
    """List a version's replies beside the live version's, blind: which side is which, only the store knows."""
    store = context_of(request).store
    return answer(Listing(await store.read_async(side_by_sides.side_by_sides, version, viewer)))


@router.post("/v1/versions/{version}/side-by-sides", responses={200: {"model": side_by_sides.SideBySideResult}})
async def vote_side_by_side(request: Request, version: VersionNumber) -> Response:
    """Say which side is better; again for another word. Answers with what people said so far."""
    body = await read_body(request, SideBySideVoteBody)
    store = context_of(request).store
    await store.write_async(side_by_sides.vote, version, body.example, body.viewer, body.choice)
    return answer(await store.read_async(side_by_sides.side_by_side_result, version))


@router.get("/v1/versions/{version}/side-by-sides/result", responses={200: {"model": side_by_sides.SideBySideResult}})
async def read_side_by_side_result(request: Request, version: VersionNumber) -> Response:
    """Return what people said of a version's replies beside the live version's, and whether it was vetoed."""
    return answer(await context_of(request).store.read_async(side_by_sides.side_by_side_result, version))


@router.post("/v1/versions/{version}/veto", responses={200: {"model": side_by_sides.SideBySideResult}})
async def veto_version(request: Request, version: VersionNumber) -> Response:
    """Forbid a version to go live or to be a canary, however green its gate; a canary ends with it."""
    body = await read_body(request, VetoBody)
    context = context_of(request)
    caller = caller_of(request)
    act = Act(caller.actor, "version.veto", f"version {version}", body.reason)
    await context.store.write_async(
        audited, act, oversight.veto_version, version, actor=caller.name, reason=body.reason
    )
    await run_in_threadpool(context.on_pointer_moved)
    return answer(await context.store.read_async(side_by_sides.side_by_side_result, version))


@router.delete("/v1/versions/{version}/veto", responses={200: {"model": side_by_sides.SideBySideResult}})
async def lift_veto(request: Request, version: VersionNumber) -> Response:
    """Take a veto back. 409 when there is none."""
    store = context_of(request).store
    act = Act(caller_of(request).actor, "version.lift_veto", f"version {version}")
    await store.write_async(audited, act, side_by_sides.lift_veto, version)
    return answer(await store.read_async(side_by_sides.side_by_side_result, version))


@router.get("/v1/trust", responses={200: {"model": dict[str, Any]}})
async def read_trust(request: Request) -> Response:
    """Return how far raters agree, who can be told to be reliable, and what looks like false feedback."""
    context = context_of(request)
    found = await context.store.read_async(trust.trust_report, context.trust)
    return answer(found.as_dict())


@router.get("/v1/quarantines", responses={200: {"model": Listing[Quarantine]}})
async def list_quarantines(request: Request, open_only: bool = False) -> Response:
    """List quarantines, the newest first; with `open_only` those that wait for a decision."""
    found = await context_of(request).store.read_async(quarantines.list_quarantines, open_only=open_only)
    return answer(Listing(found))


@router.post("/v1/quarantines", status_code=201, responses={201: {"model": Quarantine}})
async def begin_quarantine(request: Request) -> Response:
    """Keep a rater's feedback, or one act, from training anything until somebody decides. 409 when it is so already."""
    body = await read_body(request, NewQuarantineBody)
    caller = caller_of(request)
    details = {} if body.feedback_id is None else {"feedback_id": body.feedback_id}
    act = Act(caller.actor, "rater.quarantine", f"rater {body.rater_id}", body.reason, details)
    begun = await context_of(request).store.write_async(
        audited,
        act,
        quarantines.begin_by_hand,
        body.rater_id,
        reason=body.reason,
        begun_by=caller.name,
        feedback_id=body.feedback_id,
    )
    return answer(begun, 201)


@router.post("/v1/quarantines/{quarantine_id}", responses={200: {"model": Quarantine}})
async def decide_quarantine(request: Request, quarantine_id: QuarantineNumber) -> Response:
    """Release a quarantine, or keep its feedback out for good. 409 when somebody decided before."""
    body = await read_body(request, QuarantineBody)
    found = await context_of(request).store.write_async(_decide, quarantine_id, body.decision, caller_of(request))
    return answer(found)


def _decide(
    connection: Connection, quarantine_id: int, decision: Literal["released", "kept"], caller: Caller
) -> Quarantine:
    found = quarantines.get_quarantine(connection, quarantine_id)
    action = "rater.release" if decision == "released" else "rater.keep_out"
    act = Act(caller.actor, action, f"rater {found.rater_id}", details={"quarantine_id": quarantine_id})
    return audited(connection, act, quarantines.decide_quarantine, quarantine_id, decision, actor=caller.name)
