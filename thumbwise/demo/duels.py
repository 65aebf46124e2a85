"""The crowd's duels: two replies to each question, of several that the server drew, and who is better.

What a DPO round or a reward model learns from. Which two of the candidates are shown, the server decides (settings
[duels]); the raters see texts and sides alone.
"""

import asyncio
from collections.abc import Sequence

from thumbwise.client import Answer, AsyncThumbwise
from thumbwise.demo.crowd import Turn
from thumbwise.demo.plan import DemoPlan
from thumbwise.demo.raters import Choice, SeenReply
from thumbwise.demo.talk import Advance, seed_of


async def hold_duels(
    client: AsyncThumbwise, turns: Sequence[Turn], plan: DemoPlan, round_number: int, advance: Advance
) -> list[Answer]:
    """Ask each turn's question for two replies to compare, and return the answers in the turns' order."""
    gate = asyncio.Semaphore(max(1, plan.concurrency // 4))  # each draws several candidates

    async def hold(place: int, turn: Turn) -> Answer:
        async with gate:
            answer = await client.chat(
                turn.messages,
                n=2,
                compare=True,
                user=turn.rater.name,
                channel="demo",
                temperature=plan.temperature,
                top_p=plan.top_p,
                max_tokens=plan.max_tokens,
                seed=seed_of(plan, round_number, 16 * place),
            )
        advance()
        return answer

    return await asyncio.gather(*(hold(place, turn) for place, turn in enumerate(turns)))


async def give_verdicts(
    client: AsyncThumbwise,
    turns: Sequence[Turn],
    answers: Sequence[Answer],
    choices: Sequence[Choice],
    plan: DemoPlan,
    advance: Advance,
) -> None:
    """Send every rater's verdict."""
    gate = asyncio.Semaphore(plan.concurrency)

    async def give(turn: Turn, answer: Answer, choice: Choice) -> None:
        shown = {"left": answer.choices[0].reply_id, "right": answer.choices[1].reply_id}
        verdict = shown.get(choice, choice)
        if answer.comparison_id is not None and verdict is not None:
            async with gate:
                await client.verdict(answer.comparison_id, verdict, rater=turn.rater.name, channel="demo")
        advance()

    await asyncio.gather(*(give(*item) for item in zip(turns, answers, choices, strict=True)))


def pairs_seen(answers: Sequence[Answer]) -> list[tuple[SeenReply, SeenReply]]:
    """What the raters look at: the left reply and the right one."""
    sides = [[SeenReply(choice.text, choice.finish_reason) for choice in answer.choices[:2]] for answer in answers]
    return [(left, right) for left, right in sides]
