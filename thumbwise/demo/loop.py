"""The demo's story: chat, rate, train, gate, swap, as often as planned; measured on prompts that nobody rated.

While a round trains the server goes on chatting: the live version is then asked the fresh prompts, which costs little
time and shows that it can. What a round did to the policy is measured the same way during the next one, and the last
version at the end. Everything is said over HTTP, with the same routes and the same token as anybody's.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from thumbwise.client import AsyncThumbwise, Round
from thumbwise.demo.child import DemoFailed, Server
from thumbwise.demo.crowd import Crowd
from thumbwise.demo.duels import give_verdicts, hold_duels, pairs_seen
from thumbwise.demo.measures import FreshReply
from thumbwise.demo.plan import DemoPlan
from thumbwise.demo.progress import Progress
from thumbwise.demo.prompts import fresh_prompts, train_prompts
from thumbwise.demo.talk import ask_fresh, give_consents, give_thumbs, hold_chats, seen_by_raters

POLL_S = 1.0


@dataclass(slots=True)
class RoundStory:
    """What happened in one round of the demo."""

    number: int
    round_id: int
    rated_version: int
    up: int
    down: int
    phrase_share: float
    """Share of the rated replies that hold the poisoners' phrase."""
    verdicts: dict[str, int] = field(default_factory=dict)
    """Of duels: how often the left one, the right one, neither (tie) or both_bad was said. Empty: thumbs were given."""
    state: str = ""
    reason: str | None = None
    candidate_version: int | None = None
    forced: bool = False
    """Promoted by force although the gate had not passed it."""
    gate: dict[str, Any] = field(default_factory=dict)
    selection: dict[str, Any] = field(default_factory=dict)
    chat_s: float = 0.0
    round_s: float = 0.0


@dataclass(slots=True)
class Story:
    """What happened in a demo: its rounds, and the fresh replies of each version that was live, in order."""

    rounds: list[RoundStory] = field(default_factory=list)
    fresh: dict[int, list[FreshReply]] = field(default_factory=dict)
    seconds: float = 0.0


class Loop:
    """One demo under way."""

    def __init__(self, plan: DemoPlan, server: Server, client: AsyncThumbwise, progress: Progress) -> None:
        self.plan, self._server, self._client, self._progress = plan, server, client, progress
        self._crowd = Crowd(plan.crowd, plan.seed)
        self._fresh_prompts = fresh_prompts()[: plan.fresh_prompts]
        self.story = Story()

    async def run(self) -> Story:
        """Run the planned rounds and the last measurement. Raises DemoFailed, or what the client raises."""
        began = time.monotonic()
        for number in range(1, self.plan.rounds + 1):
            story = await self._rate(number)
            await self._train(story)
        await self._measure("the last version")
        self.story.seconds = time.monotonic() - began
        return self.story

    async def _rate(self, number: int) -> RoundStory:
        """Have the crowd chat and vote."""
        story = await (self._duel(number) if self.plan.votes == "duels" else self._thumb(number))
        self.story.rounds.append(story)
        return story

    async def _duel(self, number: int) -> RoundStory:
        """Have the crowd choose between two replies each time."""
        plan, began = self.plan, time.monotonic()
        turns = self._crowd.turns(max(1, plan.replies_a_round // 2), train_prompts())
        await give_consents(self._client, turns)
        with self._progress.task(f"round {number}: duels", len(turns)) as advance:
            answers = await hold_duels(self._client, turns, plan, number, advance)
        seen = pairs_seen(answers)
        choices = self._crowd.verdicts(turns, seen)
        with self._progress.task(f"round {number}: verdicts", len(turns)) as advance:
            await give_verdicts(self._client, turns, answers, choices, plan, advance)
        said = Counter(choices)
        phrase = plan.crowd.phrase.casefold()
        shown = [reply for pair in seen for reply in pair]
        story = RoundStory(
            number=number,
            round_id=0,
            rated_version=answers[-1].policy_version,
            up=0,
            down=0,
            phrase_share=sum(phrase in reply.text.casefold() for reply in shown) / len(shown),
            verdicts={name: said[name] for name in ("left", "right", "tie", "both_bad")},
            chat_s=time.monotonic() - began,
        )
        self._progress.note(
            f"round {number}: {said['left'] + said['right']} choices, {said['tie']} ties, {said['both_bad']} both bad "
            f"on replies of version {story.rated_version} in {story.chat_s:.0f} s"
        )
        return story

    async def _thumb(self, number: int) -> RoundStory:
        """Have the crowd chat and give thumbs."""
        plan, began = self.plan, time.monotonic()
        turns = self._crowd.turns(plan.replies_a_round, train_prompts())
        await give_consents(self._client, turns)
        with self._progress.task(f"round {number}: chats", len(turns)) as advance:
            answers = await hold_chats(self._client, turns, plan, number, advance)
        seen = seen_by_raters(answers)
        thumbs = self._crowd.thumbs(turns, seen)
        with self._progress.task(f"round {number}: thumbs", len(turns)) as advance:
            await give_thumbs(self._client, turns, answers, thumbs, plan, advance)
        votes = Counter(thumbs)
        phrase = plan.crowd.phrase.casefold()
        story = RoundStory(
            number=number,
            round_id=0,
            rated_version=answers[-1].policy_version,
            up=votes["up"],
            down=votes["down"],
            phrase_share=sum(phrase in reply.text.casefold() for reply in seen) / len(seen),
            chat_s=time.monotonic() - began,
        )
        self._progress.note(
            f"round {number}: {story.up} 👍 and {story.down} 👎 on replies of version {story.rated_version} "
            f"in {story.chat_s:.0f} s"
        )
        return story

    async def _train(self, story: RoundStory) -> None:
        """Ask for the round, measure the live version while it trains, and see to what comes out."""
        began = time.monotonic()
        wanted = await self._client.start_round(self.plan.method)
        story.round_id = wanted.round_id
        _, ended = await asyncio.gather(self._measure("the live version"), self._follow(story.number, wanted))
        story.state, story.reason, story.candidate_version = ended.state, ended.reason, ended.candidate_version
        story.gate, story.selection = ended.gate_report or {}, ended.selection
        story.round_s = time.monotonic() - began
        self._progress.note(
            f"round {story.number}: {story.state}, gate {story.gate.get('outcome', 'not reached')}, "
            f"in {story.round_s:.0f} s"
        )
        if ended.state == "failed":
            raise DemoFailed(f"round {ended.round_id} failed: {ended.reason}; see {self._server.data_dir / 'logs'}")
        if self.plan.force_promotion and ended.candidate_version is not None:
            await self._force(story, ended.candidate_version)

    async def _force(self, story: RoundStory, candidate: int) -> None:
        """Put a candidate live that its gate did not let through, so that it can be measured."""
        if (await self._client.version(candidate)).state == "live":
            return
        await self._client.promote(candidate, "demo control: measured whatever the gate found", force=True)
        story.forced = True
        self._progress.note(f"round {story.number}: version {candidate} promoted by force, to be measured")

    async def _follow(self, number: int, wanted: Round) -> Round:
        """Show the round's progress until it has ended."""
        deadline = time.monotonic() + self.plan.round_timeout_s
        after, latest = -1, {}
        with self._progress.task(f"round {number}: {wanted.state}", None) as advance:
            while time.monotonic() < deadline:
                self._server.check()
                found = await self._client.round(wanted.round_id)
                if found.ended:
                    return found
                for point in await self._client.round_metrics(wanted.round_id, after):
                    after = max(after, point.step)
                    latest[point.name] = point.value
                loss = f", loss {latest['loss']:.3f}" if "loss" in latest else ""
                advance.say(f"round {number}: {found.state}" + (f", step {after}{loss}" if after >= 0 else ""))
                await asyncio.sleep(POLL_S)
        raise DemoFailed(f"round {wanted.round_id} did not end within {self.plan.round_timeout_s:.0f} s")

    async def _measure(self, what: str) -> None:
        """Ask the fresh prompts of the live version, unless its answers are there already."""
        status = await self._client.status()
        live = int(status["live"]["version"])
        wanted = len(self._fresh_prompts) * self.plan.fresh_replies
        if len(self.story.fresh.get(live, ())) == wanted:
            return
        with self._progress.task(f"fresh prompts: {what} ({live})", wanted) as advance:
            replies = await ask_fresh(self._client, self._fresh_prompts, self.plan, live, advance)
        whole = [reply for reply in replies if reply.version == live]
        if len(whole) < wanted:
            whole = await self._measure_again(live, whole)
        self.story.fresh[live] = whole

    async def _measure_again(self, version: int, so_far: Sequence[FreshReply]) -> list[FreshReply]:
        """The round ended in mid-measurement: bring its predecessor back for the answers that lack, then the new one.

        The swap pins each reply to one version, so those that are there count; all of a prompt's are asked again.
        """
        live = int((await self._client.status())["live"]["version"])
        counts = Counter(reply.prompt for reply in so_far)
        missing = [prompt for prompt in self._fresh_prompts if counts[prompt] < self.plan.fresh_replies]
        await self._client.promote(version, "demo: the rest of its measurement", force=True)
        try:
            with self._progress.task("fresh prompts: the rest", len(missing) * self.plan.fresh_replies) as advance:
                replies = await ask_fresh(self._client, missing, self.plan, version, advance)
        finally:
            await self._client.promote(live, "demo: measured its predecessor", force=True)
        return [reply for reply in so_far if reply.prompt not in set(missing)] + replies
