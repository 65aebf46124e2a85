"""POST /v1/feedback: one act of one rater, acknowledged after it is committed.

This is the route that a click storm meets, so it does little: one read of the body, one strict parse, one row on the
writing thread, a response written by hand. The rater's consent is looked up only for acts that carry words.
"""

import math
import re
from dataclasses import replace
from typing import Annotated, cast

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from feedback_store.connection import Connection
from feedback_store.errors import NotFound
from feedback_store.feedback import add_feedback
from feedback_store.raters import ensure_rater, get_rater, rater_id_of
from feedback_store.records import FeedbackAck, FeedbackKind, NewFeedback, Thumb
from feedback_store.settings import PrivacySettings
from serving.api.bodies import NO_NUL, Channel, Identifier, RaterName, StrictBody, read_body
from serving.api.consent_rule import may_keep_text
from serving.api.context import ApiContext, context_of
from serving.api.errors import ApiError

router = APIRouter(tags=["feedback"])

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class FeedbackBody(StrictBody):
    """One act: a thumb (null retracts it), a verdict (null retracts it), a ranking, or a correction."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"rater": "anna", "reply_id": "0199a6b2c3d-5f1e", "thumb": "up", "reason": "clear"},
                {"rater": "anna", "comparison_id": "0199a6b2c3d-77aa", "verdict": "tie"},
                {"rater": "anna", "comparison_id": "0199a6b2c3d-77aa", "ranking": ["0199a6b2c3d-77aa-1"]},
                {"rater": "anna", "reply_id": "0199a6b2c3d-5f1e", "correction": "Robin, wren, heron."},
            ]
        }
    )

    rater: RaterName
    """Who rates, as you know them: the same name as `user` in their chats. Hashed with a secret key at once."""
    channel: Channel = "api"
    reply_id: Identifier | None = None
    """The reply that a thumb or a correction is about: its id is the receipt."""
    comparison_id: Identifier | None = None
    """The comparison that a verdict or a ranking is about."""
    thumb: Thumb | None = None
    """null takes the thumb back."""
    verdict: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")] | None = None
    """A reply id of the comparison, "tie" or "both_bad"; null takes the verdict back."""
    ranking: Annotated[list[Identifier], Field(min_length=2, max_length=16)] | None = None
    """All reply ids of the comparison, best first."""
    correction: Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=50_000)] | None = None
    """The answer that the rater would have liked: learned from once an admin approves it."""
    reason: Annotated[str, StringConstraints(pattern=NO_NUL, max_length=2_000)] | None = None
    """Why, in the rater's words or a chip's. Not beside a correction, which says it all."""

    def kind(self) -> FeedbackKind:
        """Return which act this is. Raises ApiError 400 unless it is exactly one, on the target it belongs to.

        A thumb or verdict of null retracts, so it counts as soon as it is written down.
        """
        given = self.model_fields_set
        acts: list[str] = [name for name in ("thumb", "verdict") if name in given]
        acts += [name for name in ("ranking", "correction") if getattr(self, name) is not None]
        if len(acts) != 1:
            found = " and ".join(acts) or "none of them"
            raise _refusal(acts[1] if acts else "thumb", f"one of thumb, verdict, ranking, correction; found {found}")
        kind = acts[0]
        targets = ("reply_id", "comparison_id")
        target, other = targets if kind in ("thumb", "correction") else targets[::-1]
        if getattr(self, target) is None:
            raise _refusal(target, f"{target} with a {kind}")
        if getattr(self, other) is not None:
            raise _refusal(other, f"no {other} with a {kind}")
        if self.reason is not None and kind == "correction":
            raise _refusal("reason", "no reason with a correction: it belongs to a thumb, a verdict or a ranking")
        return cast(FeedbackKind, kind)


class FeedbackReceipt(BaseModel):
    """The act is stored. One of reply_id and comparison_id says on what."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"feedback_id": 7, "duplicate": False, "reply_id": "0199a6b2c3d-5f1e"}]}
    )

    feedback_id: int
    duplicate: bool
    """True: the Idempotency-Key was known and nothing was added; the id is the first one's."""
    reply_id: str | None = None
    comparison_id: str | None = None


@router.post("/v1/feedback")
async def give_feedback(request: Request) -> Response:
    """Store one act of a rater. The answer is sent after the commit.

    The latest act of a rater on a target wins; `"thumb": null` or `"verdict": null` retracts. Send an
    `Idempotency-Key` (any text, unique per rater) and repeat the request after a lost answer: it is stored once.
    Words (a reason, a correction) are kept only where the rater's consent allows; without it a thumb still counts,
    its reason is left out, and a correction, which is nothing but words, is refused with 403. A rater who is faster
    than serving.votes_per_minute for long gets 429.
    """
    context = context_of(request)
    body = await read_body(request, FeedbackBody)
    kind = body.kind()
    rater_id = rater_id_of(context.rater_key, body.channel, body.rater)
    if wait_s := context.vote_rate.wait_s(rater_id, context.serving.votes_per_minute):
        raise _too_fast(context.serving.votes_per_minute, wait_s)
    act = NewFeedback(
        kind=kind,
        rater_id=rater_id,
        channel=body.channel,
        reply_id=body.reply_id,
        comparison_id=body.comparison_id,
        thumb=body.thumb,
        verdict=body.verdict,
        ranking=None if body.ranking is None else tuple(body.ranking),
        correction=body.correction,
        reason=body.reason,
        idempotency_key=idempotency_key(request),
    )
    try:
        ack = await _stored(context, act)
    except NotFound:
        if not await context.under_way.settled(act.reply_id or act.comparison_id or ""):
            raise
        ack = await _stored(context, act)
    context.metrics.feedback.labels(kind).inc()
    if ack.duplicate:
        context.metrics.duplicate_feedback.inc()
    target, target_id = ("reply_id", act.reply_id) if act.reply_id else ("comparison_id", act.comparison_id)
    # Written by hand: an id of ours needs no escaping, and this is the hot path.
    duplicate = "true" if ack.duplicate else "false"
    answer = f'{{"feedback_id":{ack.feedback_id},"duplicate":{duplicate},"{target}":"{target_id}"}}'
    return Response(answer.encode(), media_type="application/json")


def idempotency_key(request: Request) -> str | None:
    """Return the Idempotency-Key header. Raises ApiError 400 unless it is 1 to 255 printable ASCII characters."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        message = f"Idempotency-Key has {len(key)} characters, wanted 1 to 255 printable ASCII ones"
        raise ApiError(400, message, param="Idempotency-Key", code="bad_idempotency_key")
    return key


def _too_fast(per_minute: int, wait_s: float) -> ApiError:
    message = f"this rater votes faster than {per_minute} a minute (setting serving.votes_per_minute): wait, then go on"
    return ApiError(429, message, param="rater", code="too_many_votes", headers={"retry-after": str(math.ceil(wait_s))})


async def _stored(context: ApiContext, act: NewFeedback) -> FeedbackAck:
    if act.reason is None and act.correction is None:
        return await context.store.write_in_time(_add_act, act)
    return await context.store.write_in_time(_add_words, act, context.privacy)


def _add_act(connection: Connection, act: NewFeedback) -> FeedbackAck:
    ensure_rater(connection, act.rater_id, act.channel)
    return add_feedback(connection, act)


def _add_words(connection: Connection, act: NewFeedback, privacy: PrivacySettings) -> FeedbackAck:
    """Store an act that carries words, as far as the rater's consent goes in this very transaction."""
    ensure_rater(connection, act.rater_id, act.channel)
    if not may_keep_text(privacy, get_rater(connection, act.rater_id), act.channel):
        if act.correction is not None:
            message = "correction: this rater has not agreed to their words being kept (POST /v1/consent)"
            raise ApiError(403, message, param="correction", code="consent_required")
        act = replace(act, reason=None)
    return add_feedback(connection, act)


def _refusal(field: str, wanted: str) -> ApiError:
    return ApiError(400, f"{field}: wanted {wanted}", param=field, code="wrong_act")
