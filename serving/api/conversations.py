"""A rater's own history, for a page that shows it to them: only their replies, only text that consent let us keep.

The rater's name is the key. The web chat's is a random secret of one browser; a name on Telegram or Discord can be
guessed, so histories of other channels than the web's need the admin token.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Security
from fastapi.security import HTTPAuthorizationCredentials
from starlette.requests import Request
from starlette.responses import Response

from feedback_store.connection import Connection
from feedback_store.feedback import history
from feedback_store.records import Conversation, FinishReason, Message, Reply, Thumb
from feedback_store.replies import conversation_replies, conversations_of
from serving.api.answers import Listing, answer
from serving.api.auth import BEARER, require_admin
from serving.api.bodies import IDENTIFIER, Channel, RaterName
from serving.api.context import context_of
from serving.api.errors import ApiError
from serving.api.who import rater_of

router = APIRouter(tags=["conversations"])

RaterQuery = Annotated[RaterName, Query(description="The rater's name, as given in `user` of their chats.")]
ChannelQuery = Annotated[Channel, Query(description="Other channels than web need the admin token.")]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


@dataclass(frozen=True, slots=True)
class ConversationReply:
    """A reply as its rater saw it, and what they think of it now."""

    reply_id: str
    comparison_id: str | None
    shown_position: int | None
    messages: tuple[Message, ...] | None
    text: str | None
    finish_reason: FinishReason
    policy_version: int
    created_at: datetime | None
    thumb: Thumb | None = None
    reason: str | None = None
    verdict: str | None = None
    """Of the comparison: a reply id, "tie" or "both_bad"."""
    correction: str | None = None


@dataclass(frozen=True, slots=True)
class ConversationHistory:
    """A whole conversation, oldest reply first; the replies of a comparison in the order in which they were shown."""

    conversation_id: str
    replies: list[ConversationReply]


@router.get("/v1/conversations", responses={200: {"model": Listing[Conversation]}})
async def list_conversations(
    request: Request,
    rater: RaterQuery,
    channel: ChannelQuery = "web",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    bearer: Bearer = None,
) -> Response:
    """List a rater's conversations, the one used last first."""
    rater_id = await _rater_id(request, channel, rater, bearer)
    return answer(Listing(await context_of(request).store.read_async(conversations_of, rater_id, limit)))


@router.get("/v1/conversations/{conversation_id}", responses={200: {"model": ConversationHistory}})
async def read_conversation(
    request: Request,
    conversation_id: Annotated[str, Path(pattern=IDENTIFIER)],
    rater: RaterQuery,
    channel: ChannelQuery = "web",
    bearer: Bearer = None,
) -> Response:
    """Return this rater's part of a conversation. 404 for one that is not theirs, as for one that is not there."""
    rater_id = await _rater_id(request, channel, rater, bearer)
    found = await context_of(request).store.read_async(_history_of, conversation_id, rater_id)
    if not found.replies:
        raise ApiError(404, f"no conversation {conversation_id!r} of this rater", code="not_found")
    return answer(found)


async def _rater_id(request: Request, channel: Channel, rater: str, bearer: HTTPAuthorizationCredentials | None) -> str:
    if channel != "web":
        await require_admin(request, bearer)
    return await rater_of(context_of(request), channel, rater)


def _history_of(connection: Connection, conversation_id: str, rater_id: str) -> ConversationHistory:
    found = conversation_replies(connection, conversation_id, rater_id)
    return ConversationHistory(conversation_id, [_shown(connection, reply, rater_id) for reply in found])


def _shown(connection: Connection, reply: Reply, rater_id: str) -> ConversationReply:
    """Put the rater's own latest acts beside a reply (never those of others)."""
    acts = history(connection, reply_id=reply.reply_id)
    if reply.comparison_id is not None:
        acts += history(connection, comparison_id=reply.comparison_id)
    own: dict[str, Any] = {}
    for feedback in acts:
        act = feedback.act
        if act.rater_id != rater_id:
            continue
        if act.kind == "thumb":
            own.update(thumb=act.thumb, reason=act.reason)
        elif act.kind == "verdict":
            own["verdict"] = act.verdict
        elif act.kind == "correction":
            own["correction"] = act.correction
    values = asdict(reply)
    return ConversationReply(**{name: values[name] for name in _FROM_REPLY}, **own)


_FROM_REPLY = (
    "reply_id", "comparison_id", "shown_position", "messages", "text", "finish_reason", "policy_version", "created_at",
)  # fmt: skip
