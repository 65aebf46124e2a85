"""What the crowd and the examiner do on the wire: consent, chat, rate, and ask fresh prompts. The public API alone."""

import asyncio
from collections.abc import Callable, Sequence

from thumbwise.client import Answer, AsyncThumbwise
from thumbwise.demo.crowd import Turn
from thumbwise.demo.measures import FreshReply
from thumbwise.demo.plan import DemoPlan
from thumbwise.demo.raters import SeenReply, Thumb

Advance = Callable[[], None]
"""Told after each thing done, for a progress bar."""
EXAMINER = "examiner"
"""Asks the fresh prompts. Gives no consent and no thumb, so nothing of it can be trained on."""

MEASURING = 1_000


async def give_consents(client: AsyncThumbwise, turns: Sequence[Turn]) -> None:
    """Have every rater of these turns agree to their words being kept."""
    names = sorted({turn.rater.name for turn in turns})
    await asyncio.gather(*(client.give_consent(name, "demo", True) for name in names))


async def hold_chats(
    client: AsyncThumbwise, turns: Sequence[Turn], plan: DemoPlan, round_number: int, advance: Advance
) -> list[Answer]:
    """Hold the turns' chats, `plan.concurrency` at a time, and return the answers in the turns' order."""
    gate = asyncio.Semaphore(plan.concurrency)

    async def hold(place: int, turn: Turn) -> Answer:
        async with gate:
            answer = await client.chat(
                turn.messages,
                user=turn.rater.name,
                channel="demo",
                temperature=plan.temperature,
                top_p=plan.top_p,
                max_tokens=plan.max_tokens,
                seed=seed_of(plan, round_number, place),
            )
        advance()
        return answer

    return await asyncio.gather(*(hold(place, turn) for place, turn in enumerate(turns)))


async def give_thumbs(
    client: AsyncThumbwise,
    turns: Sequence[Turn],
    answers: Sequence[Answer],
    thumbs: Sequence[Thumb],
    plan: DemoPlan,
    advance: Advance,
) -> None:
    """Send every rater's thumb."""
    gate = asyncio.Semaphore(plan.concurrency)

    async def give(turn: Turn, answer: Answer, thumb: Thumb) -> None:
        if answer.reply_id is not None:
            async with gate:
                await client.thumb(answer.reply_id, thumb, rater=turn.rater.name, channel="demo")
        advance()

    await asyncio.gather(*(give(*item) for item in zip(turns, answers, thumbs, strict=True)))


def seen_by_raters(answers: Sequence[Answer]) -> list[SeenReply]:
    """What the raters look at."""
    return [SeenReply(answer.text, answer.choices[0].finish_reason) for answer in answers]


async def ask_fresh(
    client: AsyncThumbwise, prompts: Sequence[str], plan: DemoPlan, version: int, advance: Advance
) -> list[FreshReply]:
    """Ask every fresh prompt `plan.fresh_replies` times, of the live `version`. Each reply says which one wrote it.

    Every version draws with seeds of its own: with equal ones its replies would begin as the base's do, and the win
    rate would no longer be that of independent replies.
    """
    gate = asyncio.Semaphore(plan.concurrency)

    async def ask(place: int, prompt: str) -> FreshReply:
        async with gate:
            answer = await client.chat(
                prompt,
                user=EXAMINER,
                channel="demo",
                temperature=plan.temperature,
                top_p=plan.top_p,
                max_tokens=plan.max_tokens,
                seed=seed_of(plan, MEASURING + version, place),
            )
        advance()
        return FreshReply(prompt, answer.text, answer.choices[0].finish_reason, answer.policy_version)

    asked = [prompt for prompt in prompts for _ in range(plan.fresh_replies)]
    return await asyncio.gather(*(ask(place, prompt) for place, prompt in enumerate(asked)))


def seed_of(plan: DemoPlan, part: int, place: int) -> int:
    """A seed of its own for every draw: part r is round r, part 1,000 + v measures version v."""
    return plan.seed * 1_000_000_000 + part * 100_000 + place
