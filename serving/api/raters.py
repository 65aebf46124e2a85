"""A person's data: GET /v1/raters/export hands it out, POST /v1/raters/erase takes it away.

As with histories, the rater's name is the key: the web chat's is a random secret of one browser, names of other
channels can be guessed, so those need the admin token (a bot that asks for its people has it).
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Security
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from feedback_store.audit import ERASED_RATER, Act, audited
from feedback_store.rater_data import Erasure, erase_rater, rater_data
from feedback_store.records import Rater, Reply
from serving.api.answers import answer, feedback_row
from serving.api.auth import BEARER, caller_of, require_admin
from serving.api.bodies import Channel, RaterName, StrictBody, read_body
from serving.api.context import context_of
from serving.api.records import FeedbackEvent
from serving.api.who import rater_of

router = APIRouter(tags=["raters"])

Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


class EraseBody(StrictBody):
    """Whose data is to be erased."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rater": "anna", "channel": "web"}]})

    rater: RaterName
    """The rater's name, as given in `user` of their chats."""
    channel: Channel
    """Other channels than web need the admin token."""


@dataclass(frozen=True, slots=True)
class RaterExport:
    """Everything that bears a rater's id, oldest first."""

    rater: Rater | None
    """null: this rater was never seen."""
    replies: list[Reply]
    feedback: list[FeedbackEvent]


@router.get("/v1/raters/export", responses={200: {"model": RaterExport}})
async def export_rater(
    request: Request,
    rater: Annotated[RaterName, Query(description="The rater's name, as given in `user` of their chats.")],
    channel: Annotated[Channel, Query(description="Other channels than web need the admin token.")],
    bearer: Bearer = None,
) -> Response:
    """Return everything that is kept of this rater: consent, replies, acts. Nothing, for one never seen."""
    context = context_of(request)
    if channel != "web":
        await require_admin(request, bearer)
    found = await context.store.read_async(rater_data, await rater_of(context, channel, rater))
    acts = [feedback_row(act) for act in found.feedback]
    return answer({"rater": found.rater, "replies": found.replies, "feedback": acts})


@router.post("/v1/raters/erase", responses={200: {"model": Erasure}})
async def erase_rater_data(request: Request, bearer: Bearer = None) -> Response:
    """Erase a rater: their consent, their acts, the words of their replies. The next round does not see them.

    The answer names the versions that were trained on something of theirs: what those learnt is not unlearnt.
    """
    context = context_of(request)
    body = await read_body(request, EraseBody)
    rater_id = await rater_of(context, body.channel, body.rater)
    if body.channel == "web":
        return answer(await context.store.write_async(erase_rater, rater_id))
    await require_admin(request, bearer)
    act = Act(caller_of(request).actor, "rater.erase", ERASED_RATER, details={"channel": body.channel})
    return answer(await context.store.write_async(audited, act, erase_rater, rater_id))
