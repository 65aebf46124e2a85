"""The admin's look into the store: one reply with everything that is known of it, and the latest replies and acts."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from feedback_store.connection import Connection
from feedback_store.feedback import history, recent_feedback
from feedback_store.records import FeedbackKind, Reply, Thumb
from feedback_store.replies import get_reply, recent_replies
from serving.api.answers import Listing, answer, feedback_row
from serving.api.auth import ADMIN
from serving.api.bodies import IDENTIFIER, LARGEST_INTEGER
from serving.api.context import context_of

router = APIRouter(tags=["records"], dependencies=ADMIN)

Limit = Annotated[int, Query(ge=1, le=1000)]


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """A stored act of a rater, as the admin sees it."""

    feedback_id: int
    kind: FeedbackKind
    rater_id: str
    channel: str
    reply_id: str | None
    comparison_id: str | None
    thumb: Thumb | None
    verdict: str | None
    ranking: tuple[str, ...] | None
    correction: str | None
    reason: str | None
    created_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRecord(Reply):
    """A reply and every act on it, oldest first."""

    feedback: list[FeedbackEvent]


@router.get("/v1/replies", responses={200: {"model": Listing[Reply]}})
async def list_replies(
    request: Request,
    limit: Limit = 50,
    before: Annotated[str | None, Query(pattern=IDENTIFIER, description="A reply id: only older ones.")] = None,
) -> Response:
    """List replies, the newest first."""
    return answer(Listing(await context_of(request).store.read_async(recent_replies, limit, before)))


@router.get("/v1/replies/{reply_id}", responses={200: {"model": ReplyRecord}})
async def read_reply(request: Request, reply_id: Annotated[str, Path(pattern=IDENTIFIER)]) -> Response:
    """Return one reply with its policy version, adapter hash, sampling, log-probability, and every act on it."""
    return answer(await context_of(request).store.read_async(_reply_with_feedback, reply_id))


@router.get("/v1/feedback/recent", responses={200: {"model": Listing[FeedbackEvent]}})
async def list_recent_feedback(
    request: Request,
    limit: Limit = 50,
    before: Annotated[int | None, Query(ge=1, le=LARGEST_INTEGER, description="A feedback id: only older.")] = None,
) -> Response:
    """List acts of raters, the newest first, superseded ones included."""
    found = await context_of(request).store.read_async(recent_feedback, limit, before)
    return answer(Listing([feedback_row(feedback) for feedback in found]))


def _reply_with_feedback(connection: Connection, reply_id: str) -> dict[str, Any]:
    reply = get_reply(connection, reply_id)
    return {**asdict(reply), "feedback": [feedback_row(act) for act in history(connection, reply_id=reply_id)]}
