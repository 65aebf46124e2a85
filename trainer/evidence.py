"""Reading the store for a round: the live version's feedback, with every reply and comparison it names."""

from dataclasses import dataclass
from typing import Any

from feedback_store import feedback, replies, versions
from feedback_store.records import Comparison, PolicyVersion, Reply
from trainer.selection import Judgements, judgements

_OTHER_PROMPTS = 2000
"""How many recent replies are looked through for further gate prompts."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the store knows that a round could use. `quarantined` counts acts of quarantined raters, left out."""

    live: PolicyVersion
    found: Judgements
    replies: dict[str, Reply]
    quarantined: int
    acts: int


def read_evidence(connection: Any, *, fresh_only: bool, verdicts_as_thumbs: bool = True) -> Evidence:
    """Read effective feedback: on replies of the live version alone when `fresh_only` (on-policy), else on all."""
    live = versions.live_version(connection)
    policy_version = live.version if fresh_only else None
    acts = feedback.effective_feedback(connection, policy_version=policy_version)
    everyones = feedback.effective_feedback(connection, policy_version=policy_version, include_quarantined=True)
    shown: dict[str, Comparison] = {}
    for act in acts:
        if act.act.comparison_id is not None and act.act.comparison_id not in shown:
            shown[act.act.comparison_id] = replies.get_comparison(connection, act.act.comparison_id)
    found = judgements(acts, shown, verdicts_as_thumbs=verdicts_as_thumbs)
    named = {vote.reply_id for vote in found.votes} | {
        name for pair in found.pairs for name in (pair.chosen, pair.rejected)
    }
    texts = {reply_id: replies.get_reply(connection, reply_id) for reply_id in sorted(named)}
    return Evidence(live, found, texts, len(everyones) - len(acts), len(acts))


def other_prompts(connection: Any) -> list[Reply]:
    """Recent replies with kept prompts, rated or not: further prompts for the gate."""
    return [reply for reply in replies.recent_replies(connection, _OTHER_PROMPTS) if reply.messages is not None]
