"""The admin's routes over rounds. A wish is a row; the trainer, which this process may not have, takes it up."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from feedback_store import rounds
from feedback_store.audit import Act, audited
from feedback_store.records import Method, Round, RoundMetric
from serving.api.answers import Listing, answer
from serving.api.auth import ADMIN, caller_of
from serving.api.bodies import LARGEST_INTEGER, StrictBody, read_body
from serving.api.context import context_of
from serving.api.errors import ApiError

router = APIRouter(tags=["rounds"], dependencies=ADMIN)

LARGEST_STEP = 2**31 - 1
RoundNumber = Annotated[int, Path(ge=1, le=LARGEST_INTEGER)]


class RoundBody(StrictBody):
    """A wish for a round."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"method": None, "force": False}]})

    method: Method | None = None
    """null: as the settings say."""
    force: bool = False
    """Ask for it although the readiness report says that there is too little feedback."""


@router.get("/v1/readiness", responses={200: {"model": dict[str, Any]}})
async def read_readiness(request: Request) -> Response:
    """Report whether there is enough feedback for a round now, and what is missing."""
    return answer(await run_in_threadpool(context_of(request).readiness))


@router.get("/v1/rounds", responses={200: {"model": Listing[Round]}})
async def list_rounds(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
    """List rounds, the newest first."""
    return answer(Listing(await context_of(request).store.read_async(rounds.list_rounds, limit)))


@router.post("/v1/rounds", status_code=201, responses={201: {"model": Round}})
async def request_round(request: Request) -> Response:
    """Ask for a round. 409 while another is open, and (with the report beside the error) when feedback is scarce."""
    context = context_of(request)
    body = await read_body(request, RoundBody)
    if not body.force:
        report = await run_in_threadpool(context.readiness)
        if not report.get("ready"):
            message = "there is too little feedback for a round: see readiness, or ask with force"
            raise ApiError(409, message, code="not_ready", extra={"readiness": report})
    caller = caller_of(request)
    wish = await context.store.write_async(
        audited,
        Act(caller.actor, "round.start", details={"method": body.method, "force": body.force}),
        rounds.request_round,
        method=body.method,
        requested_by=caller.name,
        settings={"force": True} if body.force else {},
    )
    return answer(wish, 201)


@router.get("/v1/rounds/{round_id}", responses={200: {"model": Round}})
async def read_round(request: Request, round_id: RoundNumber) -> Response:
    """Return one round: state, selection, gate report, reason."""
    return answer(await context_of(request).store.read_async(rounds.get_round, round_id))


@router.post("/v1/rounds/{round_id}/cancel", responses={200: {"model": Round}})
async def cancel_round(request: Request, round_id: RoundNumber) -> Response:
    """Cancel an open round; the trainer stops it at its next heartbeat. 409 for one that has ended."""
    caller = caller_of(request)
    act = Act(caller.actor, "round.cancel", f"round {round_id}")
    store = context_of(request).store
    return answer(await store.write_async(audited, act, rounds.cancel_round, round_id, caller.name))


@router.get("/v1/rounds/{round_id}/metrics", responses={200: {"model": Listing[RoundMetric]}})
async def read_round_metrics(
    request: Request, round_id: RoundNumber, after: Annotated[int, Query(ge=-1, le=LARGEST_STEP)] = -1
) -> Response:
    """Return the points of a round's live curves, those of steps beyond `after`."""
    store = context_of(request).store
    await store.read_async(rounds.get_round, round_id)
    return answer(Listing(await store.read_async(rounds.metrics, round_id, after_step=after)))
