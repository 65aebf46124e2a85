"""What follows an erasure: is it gone from the database's files, and shall what learnt from it go on serving?

An erasure's number comes with the answer to POST /v1/raters/erase. It says nothing of whose it was.
"""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from feedback_store.audit import Act, audited
from feedback_store.erasures import ErasureRow, get_erasure
from feedback_store.retiring import Retirement, live_without, retire_learnt
from serving.api.answers import answer
from serving.api.auth import ADMIN, caller_of
from serving.api.bodies import StrictBody, read_body
from serving.api.context import context_of

router = APIRouter(tags=["raters"], dependencies=ADMIN)

ErasureNumber = Annotated[int, Path(ge=1, le=2**63 - 1)]


class RetireBody(StrictBody):
    """Whether a round is to make up for it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"retrain": True}]})

    retrain: bool = False
    """Ask for a round over all feedback that is left. The erased person's is in no selection any more."""


@router.get("/v1/erasures/{erasure_id}", responses={200: {"model": ErasureRow}})
async def read_erasure(request: Request, erasure_id: ErasureNumber) -> Response:
    """Return an erasure: which versions had learnt from it, since when the database's files hold nothing of it."""
    return answer(await context_of(request).store.read_async(get_erasure, erasure_id))


@router.post("/v1/erasures/{erasure_id}/retire", responses={200: {"model": Retirement}})
async def retire_versions(request: Request, erasure_id: ErasureNumber) -> Response:
    """Keep every version that had learnt from the erased person from serving, and ask for a round if wanted.

    Each is vetoed; if the live one is among them, the newest one before it that learnt nothing of theirs comes back.
    Repeating it changes nothing more. 409 when that version's adapter is refused.
    """
    context, body = context_of(request), await read_body(request, RetireBody)
    caller = caller_of(request)
    taught = (await context.store.read_async(get_erasure, erasure_id)).versions
    target = await context.store.read_async(live_without, taught)
    await run_in_threadpool(context.prepare_version, target)
    act = Act(caller.actor, "rater.retire_versions", f"erasure {erasure_id}", details={"versions": taught})
    found = await context.store.write_async(
        audited, act, retire_learnt, erasure_id, actor=caller.name, retrain=body.retrain
    )
    await run_in_threadpool(context.on_pointer_moved)
    return answer(found)
