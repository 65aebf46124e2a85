"""POST and GET /v1/consent: whether a person's words may be kept. Asked by whatever speaks to them."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from feedback_store.raters import get_rater, set_consent
from serving.api.bodies import Channel, RaterName, StrictBody, read_body
from serving.api.context import context_of
from serving.api.who import rater_of

router = APIRouter(tags=["consent"])


class ConsentBody(StrictBody):
    """A rater's answer to the consent question."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rater": "anna", "channel": "web", "given": True}]})

    rater: RaterName
    channel: Channel
    given: bool


class ConsentState(BaseModel):
    """What a rater has answered."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"consent": True, "version": 1, "current_version": 1, "held_back": False}]}
    )

    consent: bool | None
    """null: never asked."""
    version: int | None
    """The version of the consent text that was answered."""
    current_version: int
    """The version that counts now: an older yes has to be asked for again."""
    held_back: bool
    """Whether no round learns from texts of this channel at present, whatever people answer (its platform's rules)."""


@router.post("/v1/consent")
async def give_or_revoke_consent(request: Request) -> Response:
    """Note a rater's yes or no. It counts from the next reply on; a no is always honoured."""
    context = context_of(request)
    body = await read_body(request, ConsentBody)
    rater_id = await rater_of(context, body.channel, body.rater)
    version = context.privacy.consent_version
    await context.store.write_in_time(set_consent, rater_id, body.channel, body.given, version)
    held_back = body.channel in context.held_back_channels
    state = ConsentState(consent=body.given, version=version, current_version=version, held_back=held_back)
    return JSONResponse(state.model_dump())


@router.get("/v1/consent")
async def read_consent(
    request: Request, rater: Annotated[RaterName, Query()], channel: Annotated[Channel, Query()]
) -> Response:
    """Return what this rater has answered; an unknown rater was never asked."""
    context = context_of(request)
    found = await context.store.read_async(get_rater, await rater_of(context, channel, rater))
    state = ConsentState(
        consent=found.consent if found else None,
        version=found.consent_version if found else None,
        current_version=context.privacy.consent_version,
        held_back=channel in context.held_back_channels,
    )
    return JSONResponse(state.model_dump())
