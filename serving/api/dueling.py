"""A comparison whose replies are chosen from more that were drawn (see serving/duels.py), within one chat request.

Some candidates are drawn under a hint about style, so that there is something to choose between. The hint is nobody's:
such a reply is kept as one to the plain prompt, which is what a policy will be asked, and its log-probability is that
of its tokens after the plain prompt, by the same weights. Where that cannot be told (an engine that does not score, a
full queue, a version that went meanwhile), it is kept as unknown, and a round computes it.

Nothing here may cost a person their reply: what fails leaves a comparison as it would be without duels.
"""

import logging
from collections.abc import Sequence
from random import SystemRandom

from starlette.concurrency import run_in_threadpool

from feedback_store.records import Sampling
from serving.api.context import ApiContext
from serving.api.drawing import Candidate, Draw, Hinted, start_candidates
from serving.duels import Said, choose, with_hint
from serving.engine import EngineUnavailable, PromptTooLong, QueueFull, Scoring, VersionNotServed

log = logging.getLogger(__name__)


async def start_duel(context: ApiContext, draw: Draw, sampling: Sampling, shown: int) -> bool:
    """Start more candidates than are shown, and give them to `draw`. False, with nothing started, where there is to be
    no duel or no room for one."""
    settings = context.duels
    if settings.show == "drawn" or settings.candidates <= shown or sampling.temperature == 0:
        return False
    if context.canary() is not None:
        return False
    hinted = await hints_for(context, draw, settings.candidates)
    versions = (None,) * settings.candidates
    try:
        draw.candidates = start_candidates(
            context.engine,
            draw.completion_id,
            draw.prompt_ids,
            sampling,
            lambda: versions,
            shuffle=True,
            user=draw.rater_id,
            hinted=hinted,
        )
    except (QueueFull, PromptTooLong):  # too much for the queue, or for the model with a hint
        return False
    draw.to_show = shown
    return True


async def hints_for(context: ApiContext, draw: Draw, count: int) -> list[Hinted | None]:
    """Deal hints to candidates, each by chance. The same hint may come twice; one candidate at least has none."""
    settings, dice = context.duels, SystemRandom()
    if not settings.hints or not settings.hint_share:
        return [None] * count
    dealt = [dice.choice(settings.hints) if dice.random() < settings.hint_share else None for _ in range(count)]
    if None not in dealt:
        dealt[dice.randrange(count)] = None
    prompts = {
        hint: (await run_in_threadpool(context.engine.render, with_hint(draw.messages, hint)))[1]
        for hint in sorted({hint for hint in dealt if hint is not None})
    }
    return [None if hint is None else Hinted(hint, prompts[hint]) for hint in dealt]


async def settle_duel(context: ApiContext, draw: Draw) -> None:
    """When all candidates have ended, choose those that are shown. Does nothing where there is nothing to choose, or
    the reader has left."""
    if draw.to_show is None or draw.cancelled:
        return
    whole = tuple(one for one in draw.candidates if one.end is not None and one.end.finish_reason != "cancelled")
    if len(whole) >= draw.to_show:  # else a step failed, and what is shown says so
        draw.candidates = whole
    rewards = None
    if context.duels.show == "auto":
        rewards = await _rewards(context, draw)
    choice = choose(said(draw.candidates), draw.to_show, context.duels.explore, SystemRandom(), rewards)
    draw.show(choice.members, choice.as_dict(len(draw.candidates)))
    await score_hinted(context, draw)


async def score_hinted(context: ApiContext, draw: Draw) -> None:
    """Find out how likely the shown replies that were drawn under a hint are after the plain prompt."""
    if not isinstance(context.engine, Scoring):
        return
    for candidate in draw.candidates:
        if candidate.hint is None or candidate.end is None:
            continue
        try:
            candidate.plain_logprob_nats = await context.engine.logprob_nats(
                draw.prompt_ids, candidate.end.token_ids, candidate.end.policy.version, user=draw.rater_id
            )
        except (QueueFull, PromptTooLong, EngineUnavailable, VersionNotServed) as refusal:
            log.info("a hinted reply was not scored reason=%s", type(refusal).__name__)


def said(candidates: Sequence[Candidate]) -> list[Said]:
    """What the choice looks at of candidates that have ended."""
    return [Said(one.text, "cancelled" if one.end is None else one.end.finish_reason) for one in candidates]


async def _rewards(context: ApiContext, draw: Draw) -> list[float] | None:
    completions = [one.end.token_ids for one in draw.candidates if one.end is not None]
    if len(completions) < len(draw.candidates):
        return None
    try:
        return await run_in_threadpool(context.duel_rewards, draw.prompt_ids, completions)
    except Exception:
        log.exception("a reward model failed on candidates: the most different are shown")
        return None
