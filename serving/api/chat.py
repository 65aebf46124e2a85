"""POST /v1/chat/completions: draw, keep, answer — in this order, so that a receipt always works.

The rows are committed before the response or the last chunk is sent. If the store is away the reply still goes out,
without a receipt: chatting must not stop because rating does. If the reader leaves, generation stops within two steps;
of a single reply the part they saw is kept (finish_reason "cancelled": they hold its id from the first chunk and may
still rate it), of a comparison nothing is.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

import jinja2
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from feedback_store.connection import Connection
from feedback_store.errors import StoreUnavailable
from feedback_store.raters import ensure_rater, get_rater
from feedback_store.records import Message, Sampling
from feedback_store.replies import add_comparison, add_reply
from feedback_store.settings import PrivacySettings
from serving.api.bodies import read_body
from serving.api.chat_body import MODEL_NAME, ChatBody, ChatMetadata
from serving.api.completion import Chunks, completion
from serving.api.consent_rule import may_keep_text
from serving.api.context import ApiContext, context_of
from serving.api.drawing import Candidate, Draw, draw_whole, grow, new_id, start_candidates
from serving.api.dueling import settle_duel, start_duel
from serving.api.errors import ApiError, as_api_error, unavailable
from serving.api.event_stream import DONE, EventStream, event, until_gone
from serving.api.who import rater_of
from serving.engine import EngineUnavailable, QueueFull
from serving.telemetry import ChatSpan

log = logging.getLogger(__name__)
router = APIRouter(tags=["chat"])


@router.post("/v1/chat/completions")
async def create_chat_completion(request: Request) -> Response:
    """Reply to a conversation with the live policy, or with the canary if it is its, as OpenAI's API does.

    `user` names the rater (it is hashed at once) and `metadata` says where the reply belongs: `channel`,
    `conversation_id`, and `compare: true` with `n` of 2 or more, which opens a comparison in a random, logged order.
    More may be drawn for it than are shown (settings [duels]); a stream then brings each reply when it is whole.
    While there is a canary, a comparison pits it against the live version, and each choice names its own.
    Each choice carries `reply_id`, the receipt for POST /v1/feedback; for n = 1 it is the completion's `id`.
    """
    context = context_of(request)
    span = context.telemetry.chat(MODEL_NAME, request.headers)
    try:
        body = await read_body(request, ChatBody)
        draw = await begin(context, body)
    except BaseException as error:
        span.failed(_kind_of(error))
        span.end()
        raise
    headers = {"x-policy-version": ", ".join(map(str, _said_once(draw.policy_versions)))}
    if body.stream:
        include_usage = body.stream_options is not None and body.stream_options.include_usage
        return EventStream(_events(context, draw, include_usage, span), draw.cancel, headers)
    try:
        if not await _drawn_for_a_reader(context, draw, request):
            return Response(status_code=499)  # nobody is left to read it
        await keep(context, draw)
        return JSONResponse(completion(draw), headers=headers)
    except BaseException as error:
        span.failed(_kind_of(error))
        raise
    finally:
        span.end(draw)


async def begin(context: ApiContext, body: ChatBody) -> Draw:
    """Check what only the server can check and start the candidates. Raises ApiError, QueueFull, PromptTooLong."""
    metadata = body.metadata or ChatMetadata()
    sampling, count = _sampling(context, body), _candidates(context, body, metadata)
    if context.stopping:
        raise unavailable("the server is stopping: try again soon", "stopping")
    if context.live_policy() is None:
        raise unavailable("no policy is live yet: /readyz says when it is", "not_ready")
    messages = body.prompt(context.policy)
    rendered_prompt, prompt_ids = await run_in_threadpool(_render, context, messages)
    completion_id = new_id()
    rater_id = await rater_of(context, metadata.channel, body.user) if body.user else None
    conversation_id = metadata.conversation_id or _new_conversation(context, rater_id)

    def versions() -> tuple[int | None, ...]:
        canary = context.canary()
        return (None,) * count if canary is None else canary.versions(conversation_id, count, metadata.compare)

    draw = Draw(
        completion_id=completion_id,
        channel=metadata.channel,
        conversation_id=conversation_id,
        rater_id=rater_id,
        messages=messages,
        rendered_prompt=rendered_prompt,
        prompt_tokens=len(prompt_ids),
        compared=metadata.compare,
        candidates=(),
        metadata=metadata.further(),
        prompt_ids=prompt_ids,
    )
    if metadata.compare and await start_duel(context, draw, sampling, count):
        return draw
    draw.candidates = start_candidates(
        context.engine, completion_id, prompt_ids, sampling, versions, shuffle=metadata.compare, user=rater_id
    )
    return draw


async def keep(context: ApiContext, draw: Draw) -> None:
    """Commit the rows of a finished draw, or note that the store was away."""
    count_replies(context, draw)
    try:
        await context.store.write_in_time(_add_draw, draw, context.privacy)
    except StoreUnavailable:
        context.metrics.unstored_replies.inc()
        log.warning("the store is unavailable: reply sent without receipt completion=%s", draw.completion_id)
        return
    draw.stored = True


def _add_draw(connection: Connection, draw: Draw, privacy: PrivacySettings) -> None:
    """Store a draw as the rater's consent stands in this very transaction."""
    rater = None
    if draw.rater_id is not None:
        ensure_rater(connection, draw.rater_id, draw.channel)
        rater = get_rater(connection, draw.rater_id)
    for reply in draw.rows(may_keep_text(privacy, rater, draw.channel)):
        add_reply(connection, reply)
    comparison = draw.comparison()
    if comparison is not None:
        add_comparison(connection, comparison)


def count_replies(context: ApiContext, draw: Draw) -> None:
    """Count a finished draw in the metrics."""
    for candidate in draw.candidates:
        if candidate.end is not None:
            context.metrics.replies.labels(draw.channel, candidate.end.finish_reason).inc()
            context.metrics.reply_seconds.observe(candidate.latency_ms / 1000)
        if candidate.first_text_s is not None:
            context.metrics.first_token_seconds.observe(candidate.first_text_s)
    context.metrics.reply_tokens.inc(draw.completion_tokens)
    context.metrics.prompt_tokens.inc(draw.prompt_tokens)


async def _drawn_for_a_reader(context: ApiContext, draw: Draw, request: Request) -> bool:
    """Draw all candidates to their ends and choose what is shown. False if the client left before: everything was
    stopped, nothing is kept."""
    drawing = asyncio.create_task(_draw_and_choose(context, draw))
    reader = asyncio.create_task(until_gone(request.receive))
    try:
        await asyncio.wait((drawing, reader), return_when=asyncio.FIRST_COMPLETED)
        if not drawing.done():
            return False
        drawing.result()
        return True
    finally:
        draw.cancel()
        drawing.cancel()
        reader.cancel()
        await asyncio.gather(drawing, reader, return_exceptions=True)


async def _draw_and_choose(context: ApiContext, draw: Draw) -> None:
    """Draw all candidates to their ends; of a duel, choose what is shown."""
    await draw_whole(draw)
    _all_ended(draw)
    await settle_duel(context, draw)


async def _events(context: ApiContext, draw: Draw, include_usage: bool, span: ChatSpan) -> AsyncIterator[bytes]:
    """Write the events of a stream and end its span, whatever becomes of it."""
    try:
        with context.under_way.streaming(draw.completion_id):
            async for data in _written(context, draw, include_usage, span):
                yield data
    finally:
        span.end(draw, streamed=True)


async def _written(context: ApiContext, draw: Draw, include_usage: bool, span: ChatSpan) -> AsyncIterator[bytes]:
    """Write the events of a stream; the reader may leave at any of them (EventStream then cancels the draw)."""
    chunks = Chunks(draw, include_usage)
    try:
        for index in range(draw.to_show or len(draw.candidates)):
            yield event(chunks.opening(index))
        if draw.to_show is None:
            async for candidate, text in _merged(draw):
                yield event(chunks.piece(candidate.index, text))
            _all_ended(draw)
        else:  # which ones are shown is known when all have ended
            await _draw_and_choose(context, draw)
            for candidate in () if draw.cancelled else draw.candidates:
                yield event(chunks.piece(candidate.index, candidate.text))
    except (QueueFull, EngineUnavailable) as refusal:  # of an engine elsewhere, which can say so only by now
        span.failed(_kind_of(refusal))
        draw.cancel()
        yield event(as_api_error(refusal).body())
        return
    except Exception as error:  # the status line is long gone: the stream itself has to say that it broke
        span.failed(_kind_of(error))
        log.exception("a stream broke completion=%s", draw.completion_id)
        draw.cancel()
        yield event({"error": {"message": "the reply broke off", "type": "server_error", "param": None, "code": None}})
        return
    await _keep_what_was_seen(context, draw)
    for candidate in draw.candidates:
        yield event(chunks.closing(candidate, last=candidate is draw.candidates[-1]))
    if include_usage:
        yield event(chunks.usage())
    yield DONE


async def _keep_what_was_seen(context: ApiContext, draw: Draw) -> None:
    """Keep a whole draw, or the part of a single reply that was seen before its reader left."""
    whole = all(candidate.end and candidate.end.finish_reason != "cancelled" for candidate in draw.candidates)
    if whole or (len(draw.candidates) == 1 and draw.candidates[0].text):
        await keep(context, draw)
    else:
        count_replies(context, draw)


async def _merged(draw: Draw) -> AsyncIterator[tuple[Candidate, str]]:
    """Yield the pieces of all candidates as they come. One candidate, the usual case, needs no queue."""
    if len(draw.candidates) == 1:
        async for text in grow(draw.candidates[0], draw.started_at):
            yield draw.candidates[0], text
        return
    queue: asyncio.Queue[tuple[Candidate, str] | None] = asyncio.Queue()

    async def feed(candidate: Candidate) -> None:
        try:
            async for text in grow(candidate, draw.started_at):
                queue.put_nowait((candidate, text))
        finally:
            queue.put_nowait(None)

    tasks = [asyncio.create_task(feed(candidate)) for candidate in draw.candidates]
    try:
        for _ in tasks:
            while (item := await queue.get()) is not None:
                yield item
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _kind_of(error: BaseException) -> str:
    """The name of an error for a trace: its code or type, never its message, which may quote what somebody wrote."""
    return (error.code if isinstance(error, ApiError) else None) or type(error).__name__


def _all_ended(draw: Draw) -> None:
    if not draw.cancelled and any(candidate.end is None for candidate in draw.candidates):
        raise unavailable("the engine stopped before the reply ended", "engine_stopped")


def _render(context: ApiContext, messages: tuple[Message, ...]) -> tuple[str, tuple[int, ...]]:
    try:
        return context.engine.render(messages)
    except jinja2.TemplateError as error:
        reason = f"messages: the model's chat template refuses this conversation: {error}"
        raise ApiError(400, reason, param="messages", code="template_refused") from error


def _new_conversation(context: ApiContext, rater_id: str | None) -> str:
    canary = context.canary()
    return new_id() if canary is None or rater_id is None else canary.name_conversation(rater_id, new_id)


def _said_once(versions: tuple[int, ...]) -> tuple[int, ...]:
    return versions[:1] if len(set(versions)) == 1 else versions


def _sampling(context: ApiContext, body: ChatBody) -> Sampling:
    serving = context.serving
    if body.model != MODEL_NAME:
        message = f"model is {body.model[:80]!r}, wanted {MODEL_NAME!r}, the one model of this server"
        raise ApiError(404, message, param="model", code="model_not_found")
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    asked = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    if asked is not None and asked > serving.max_reply_tokens:
        message = f"{name} is {asked}, wanted at most {serving.max_reply_tokens} (setting serving.max_reply_tokens)"
        raise ApiError(400, message, param=name, code="too_large")
    return Sampling(
        temperature=serving.default_temperature if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        max_tokens=min(serving.default_reply_tokens, serving.max_reply_tokens) if asked is None else asked,
        stop=body.stops(),
        seed=body.seed,
    )


def _candidates(context: ApiContext, body: ChatBody, metadata: ChatMetadata) -> int:
    count = body.n or 1
    limit = context.serving.max_candidates
    if count > limit:
        message = f"n is {count}, wanted at most {limit} (setting serving.max_candidates)"
        raise ApiError(400, message, param="n", code="too_large")
    if metadata.compare and count < 2:
        raise ApiError(400, "n is 1, wanted 2 or more with metadata.compare", param="n", code="too_small")
    return count
