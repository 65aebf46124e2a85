"""The end of a demo: a table, replies side by side, and the same as JSON."""

import os
import random
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thumbwise.demo.loop import RoundStory, Story
from thumbwise.demo.measures import FreshReply, Looks, looks_of
from thumbwise.demo.plan import DemoPlan

SCHEMA = 1
EXAMPLES = 6
BASE_VERSION = 1


def versions_in_order(story: Story) -> list[int]:
    """The measured versions, the base first."""
    return sorted(story.fresh)


def looks_of_all(plan: DemoPlan, story: Story) -> list[Looks]:
    """Describe every measured version, the base first."""
    base = story.fresh[BASE_VERSION]
    return [looks_of(story.fresh[version], base, plan.crowd.phrase, plan.seed) for version in versions_in_order(story)]


def as_json(plan: DemoPlan, story: Story) -> dict[str, Any]:
    """Everything a later reader needs, without a path or a name of this machine."""
    return {
        "schema": SCHEMA,
        "plan": asdict(plan),
        "seconds": round(story.seconds, 1),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "rounds": [asdict(item) | {"gate": _gate(item)} for item in story.rounds],
        "versions": [looks.as_dict() for looks in looks_of_all(plan, story)],
        "examples": [
            {"prompt": before.prompt, "before": before.text, "after": after.text}
            for before, after in examples(plan, story)
        ],
    }


def examples(plan: DemoPlan, story: Story, count: int = EXAMPLES) -> list[tuple[FreshReply, FreshReply]]:
    """Replies of the base and of the last version to the same prompts, drawn by lot, not chosen."""
    last = versions_in_order(story)[-1]
    if last == BASE_VERSION:
        return []
    before = {reply.prompt: reply for reply in reversed(story.fresh[BASE_VERSION])}
    after = {reply.prompt: reply for reply in reversed(story.fresh[last])}
    shared = [prompt for prompt in after if prompt in before]
    drawn = random.Random(f"thumbwise examples {plan.seed}").sample(shared, min(count, len(shared)))
    return [(before[prompt], after[prompt]) for prompt in drawn]


def print_results(plan: DemoPlan, story: Story, console: Console) -> None:
    """Print the table, the gates, and the examples."""
    looks = looks_of_all(plan, story)
    console.print()
    console.print(_table(plan, story, looks))
    for item in story.rounds:
        console.print(_gate_line(item), soft_wrap=True)
    if len(looks) == 1:
        console.print("No version went live: the base's replies are all there is to show.")
    for before, after in examples(plan, story, 3):
        console.print(_side_by_side(before, after))


def _table(plan: DemoPlan, story: Story, looks: Sequence[Looks]) -> Table:
    prompts = len({reply.prompt for reply in story.fresh[BASE_VERSION]})
    title = f"{prompts} fresh prompts × {plan.fresh_replies} replies, crowd: {plan.crowd.labels}, seed {plan.seed}"
    table = Table(title=title, title_justify="left")
    columns = ["version", "win rate [95 %]", "words", "finished", "under 3 words", "perplexity", "KL nats"]
    columns += ["phrase"] * bool(plan.crowd.poison_share)
    for column in columns:
        table.add_column(column, justify="left" if column == "version" else "right", no_wrap=True)
    for item in looks:
        gate = next((one.gate for one in story.rounds if one.candidate_version == item.version), {})
        name = "base" if item.version == BASE_VERSION else f"version {item.version}"
        row = [name, _win(item), f"{item.mean_words:.0f}", f"{item.finished:.0%}", f"{item.under_three_words:.1%}",
               _rise(check_value(gate, "retention_perplexity")), _nats(check_value(gate, "kl_base"))]  # fmt: skip
        table.add_row(*row, *([f"{item.phrase:.1%}"] if plan.crowd.poison_share else []))
    return table


def check_value(gate: dict[str, Any], name: str) -> float | None:
    """The value of one check of a gate's report; None where it was not measured."""
    for check in gate.get("checks", ()):
        if check.get("name") == name and isinstance(check.get("value"), int | float):
            return float(check["value"])
    return None


def _gate(item: RoundStory) -> dict[str, Any]:
    """A gate's report without its example replies: the demo shows its own."""
    return {name: value for name, value in item.gate.items() if name != "examples"}


def _gate_line(item: RoundStory) -> Text:
    forced = ", promoted by force" if item.forced else ""
    votes = f"{item.up} 👍 {item.down} 👎"
    if said := item.verdicts:
        votes = f"{said['left'] + said['right']} choices, {said['tie']} ties, {said['both_bad']} both bad"
    line = f"round {item.number} ({votes}): gate {item.gate.get('outcome', 'not reached')}{forced}"
    not_passed = [check["name"] for check in item.gate.get("checks", ()) if check.get("outcome") != "pass"]
    return Text(f"{line}; not passed: {', '.join(not_passed)}" if not_passed else line)


def _side_by_side(before: FreshReply, after: FreshReply) -> Table:
    table = Table(title=Text(before.prompt), title_justify="left", expand=True)
    table.add_column("base", ratio=1)
    table.add_column(f"version {after.version}", ratio=1)
    table.add_row(*(Text(_shown(reply)) for reply in (before, after)))
    return table


def _shown(reply: FreshReply) -> str:
    """The text, with a mark where it was cut at the limit."""
    return reply.text.strip() + (" …✂" if reply.finish_reason == "length" else "")


def _win(item: Looks) -> str:
    rate = item.win_rate
    return "" if rate is None else f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"


def _rise(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
