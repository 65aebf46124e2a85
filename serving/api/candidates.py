"""POST /v1/candidates: two to four replies to one prompt that differ, for people to rank on the Annotate page.

One request makes one comparison, of the channel "candidates", and one task of the annotation queue; both are committed
before the answer. The comparison's id is a hash of batch and prompt, so a request that is sent again (its answer was
lost, the program was killed) says what is there and draws nothing.

Candidates that are alike give people nothing to rank. So some are drawn under a hint about style (settings [duels]),
and while the two most alike differ by less than `duels.min_distance`, as many more are drawn and the most varied taken.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from feedback_store.annotation_queues import CANDIDATES_CHANNEL, MOST_OVERLAP, MOST_REPLIES, OVERLAP, add_tasks
from feedback_store.audit import Act, record
from feedback_store.candidate_prompts import candidate_prompts, prompt_of_reply
from feedback_store.connection import Connection
from feedback_store.errors import Conflict
from feedback_store.records import Comparison, Message, Reply, Sampling
from feedback_store.replies import add_comparison, add_reply, comparisons_by_id
from serving.api.answers import Listing, answer
from serving.api.auth import ADMIN, Caller, caller_of
from serving.api.bodies import Identifier, StrictBody, read_body
from serving.api.chat_body import ChatMessage
from serving.api.context import ApiContext, context_of
from serving.api.drawing import Candidate, Draw, draw_whole, start_candidates
from serving.api.dueling import hints_for, said, score_hinted
from serving.api.errors import ApiError, unavailable
from serving.duels import least_distance, most_varied

router = APIRouter(tags=["candidates"], dependencies=ADMIN)

DRAWS = 3
"""How often, at most, candidates are drawn before a prompt is said to give only alike ones."""


class CandidatesBody(StrictBody):
    """A prompt, and how many replies to it are to be ranked."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"messages": [{"role": "user", "content": "Name a bird."}], "replies": 3, "batch": "birds"}]
        }
    )

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=256)] | None = None
    """The conversation that is to be answered."""
    reply_id: Identifier | None = None
    """A stored reply instead: its prompt is used, while the person it came from consents."""
    replies: int = Field(default=3, ge=2, le=MOST_REPLIES)
    """How many are to be ranked."""
    batch: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")] = "1"
    """A prompt is drawn for once a batch. Name another to draw for it again, with a newer version, say."""
    temperature: float = Field(default=1.0, gt=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    """null: the setting serving.default_reply_tokens."""
    overlap: int = Field(default=OVERLAP, ge=1, le=MOST_OVERLAP)
    """How many annotators are to rank them."""


@dataclass(frozen=True, slots=True)
class CandidatesMade:
    """What became of a prompt: made now, known (made before), or alike (nothing stored: no replies differ enough)."""

    outcome: Literal["made", "known", "alike"]
    comparison_id: str | None
    reply_ids: tuple[str, ...]
    distance: float | None
    """Of the two that are most alike, in [0, 1]; null for what was made before."""
    drawn: int
    """Replies drawn for it."""


@dataclass(frozen=True, slots=True)
class PromptOfReply:
    """A stored reply whose prompt may be used."""

    reply_id: str


@router.get("/v1/candidates/prompts", responses={200: {"model": Listing[PromptOfReply]}})
async def list_candidate_prompts(request: Request, limit: Annotated[int, Query(ge=1, le=2000)] = 100) -> Response:
    """List the newest replies of which the prompts may be used for candidates, each prompt once. No text is told."""
    context = context_of(request)
    found = await context.store.read_async(candidate_prompts, limit, context.held_back_channels)
    return answer(Listing([PromptOfReply(reply.reply_id) for reply in found]))


@router.post("/v1/candidates", responses={200: {"model": CandidatesMade}})
async def make_candidates(request: Request) -> Response:
    """Draw replies that differ to one prompt and put them before the annotators. Sent again, it says what is there."""
    context, body = context_of(request), await read_body(request, CandidatesBody)
    if (body.messages is None) == (body.reply_id is None):
        raise ApiError(400, "messages: wanted messages or reply_id, one of them", param="messages", code="wrong_prompt")
    if context.stopping or context.live_policy() is None:
        raise unavailable("no policy is live: /readyz says when it is", "not_ready")
    source = None
    if body.reply_id is not None:
        source = await context.store.read_async(prompt_of_reply, body.reply_id, context.held_back_channels)
    messages = _messages(context, body) if source is None else tuple(source.messages or ())
    comparison_id = f"{CANDIDATES_CHANNEL}-{_hash(body.batch, messages)}"
    known = (await context.store.read_async(comparisons_by_id, [comparison_id])).get(comparison_id)
    if known is None:
        draw, distance, drawn = await _drawn(context, body, comparison_id, messages, source)
        if distance < context.duels.min_distance:
            return answer(CandidatesMade("alike", None, (), round(distance, 4), drawn))
        try:
            await context.store.write_async(_keep, draw, source, body.overlap, caller_of(request))
        except Conflict:  # the same request was under way twice
            known = (await context.store.read_async(comparisons_by_id, [comparison_id])).get(comparison_id)
            if known is None:
                raise
        else:
            shown = tuple(one.reply_id for one in draw.candidates)
            return answer(CandidatesMade("made", comparison_id, shown, round(distance, 4), drawn))
    return answer(CandidatesMade("known", comparison_id, known.reply_ids, None, 0))


async def _drawn(
    context: ApiContext, body: CandidatesBody, comparison_id: str, messages: tuple[Message, ...], source: Reply | None
) -> tuple[Draw, float, int]:
    """Draw until the candidates differ enough, or DRAWS times; return the most varied, the distance of the two that are
    most alike, and how many were drawn."""
    rendered_prompt, prompt_ids = await run_in_threadpool(context.engine.render, messages)
    draw = Draw(
        completion_id=comparison_id,
        channel=CANDIDATES_CHANNEL,
        conversation_id=None,
        rater_id=None if source is None else source.rater_id,
        messages=messages,
        rendered_prompt=rendered_prompt,
        prompt_tokens=len(prompt_ids),
        compared=True,
        candidates=(),
        metadata={"batch": body.batch},
        prompt_ids=prompt_ids,
    )
    sampling = _sampling(context, body)
    pool: list[Candidate] = []
    drawn = 0
    while True:
        pool += await _draw_more(context, draw, sampling, body.replies)
        drawn += body.replies
        texts = said(pool)
        if len(pool) >= body.replies:
            members = most_varied(texts, body.replies)
            distance = least_distance([texts[place] for place in members])
            if distance >= context.duels.min_distance or drawn >= DRAWS * body.replies:
                draw.candidates = tuple(pool)
                draw.show(members, {"candidates": drawn, "by": "varied", "distance": round(distance, 4)})
                await score_hinted(context, draw)
                return draw, distance, drawn
        elif drawn >= DRAWS * body.replies:
            raise unavailable("the engine stopped before the replies ended", "engine_stopped")


async def _draw_more(context: ApiContext, draw: Draw, sampling: Sampling, count: int) -> list[Candidate]:
    """Draw further candidates to their ends; those that a stopping engine cut off are left out."""
    draw.candidates = start_candidates(
        context.engine,
        draw.completion_id,
        draw.prompt_ids,
        sampling,
        lambda: (None,) * count,
        shuffle=False,
        hinted=await hints_for(context, draw, count),
    )
    try:
        await draw_whole(draw)
    finally:
        draw.cancel()
    return [one for one in draw.candidates if one.end is not None and one.end.finish_reason != "cancelled"]


def _keep(connection: Connection, draw: Draw, source: Reply | None, overlap: int, caller: Caller) -> Comparison:
    """Store the replies, their comparison and its task, unless consent was withdrawn meanwhile."""
    if source is not None:
        prompt_of_reply(connection, source.reply_id)
    for reply in draw.rows(keep_text=True):
        add_reply(connection, reply)
    comparison = draw.comparison()
    assert comparison is not None, "candidates are always compared"
    add_comparison(connection, comparison)
    name = comparison.comparison_id
    add_tasks(connection, "candidates", {name: 0.0}, created_by=caller.actor, overlap=overlap)
    record(connection, Act(caller.actor, "candidates.make", f"comparison {name}"))
    return comparison


def _messages(context: ApiContext, body: CandidatesBody) -> tuple[Message, ...]:
    """The conversation as a chat would see it: led by the policy's own system prompt where it brings none."""
    messages = tuple(message.plain() for message in body.messages or ())
    system = context.policy.system_prompt
    if system and not any(message["role"] == "system" for message in messages):
        return ({"role": "system", "content": system}, *messages)
    return messages


def _sampling(context: ApiContext, body: CandidatesBody) -> Sampling:
    limit = context.serving.max_reply_tokens
    if body.max_tokens is not None and body.max_tokens > limit:
        message = f"max_tokens is {body.max_tokens}, wanted at most {limit} (setting serving.max_reply_tokens)"
        raise ApiError(400, message, param="max_tokens", code="too_large")
    tokens = min(context.serving.default_reply_tokens, limit) if body.max_tokens is None else body.max_tokens
    return Sampling(temperature=body.temperature, max_tokens=tokens)


def _hash(batch: str, messages: tuple[Message, ...]) -> str:
    return hashlib.sha256(json.dumps([batch, list(messages)], sort_keys=True).encode()).hexdigest()[:32]
