"""Reading the store for a round: the live version's feedback, with every reply and comparison it names."""

from dataclasses import dataclass
from typing import Any

from feedback_store import feedback, replies, rounds, versions
from feedback_store.connection import Connection
from feedback_store.records import PolicyVersion, Reply
from trainer.selection import Judgements, judgements

_ROUNDS_LOOKED_AT = 50
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


def read_evidence(connection: Connection, *, fresh_only: bool, verdicts_as_thumbs: bool = True) -> Evidence:
    """Read effective feedback: on replies of the live version alone when `fresh_only` (on-policy), else on all."""
    live = versions.live_version(connection)
    policy_version = live.version if fresh_only else None
    acts = feedback.effective_feedback(connection, policy_version=policy_version)
    everyones = feedback.effective_feedback(connection, policy_version=policy_version, include_quarantined=True)
    compared = sorted({act.act.comparison_id for act in acts if act.act.comparison_id is not None})
    shown = replies.comparisons_by_id(connection, compared)
    # No correction is approved: the store keeps no operator's word on one yet, and unapproved ones teach nothing.
    found = judgements(acts, shown, verdicts_as_thumbs=verdicts_as_thumbs)
    named = {vote.reply_id for vote in found.votes} | {item.reply_id for item in found.corrections}
    named |= {name for pair in found.pairs for name in (pair.chosen, pair.rejected)}
    texts = replies.trainable_replies(connection, sorted(named))
    return Evidence(live, found, texts, len(everyones) - len(acts), len(acts))


def last_reward_report(connection: Connection) -> dict[str, Any] | None:
    """Return how the last reward model stood to its bar (see trainer.reward_bar); None when none was trained."""
    for one in rounds.list_rounds(connection, _ROUNDS_LOOKED_AT):
        if (report := one.selection.get("reward_model")) is not None:
            return dict(report)
    return None


def other_prompts(connection: Connection) -> list[Reply]:
    """Recent replies with kept prompts, rated or not: further prompts for the gate."""
    recent = [reply.reply_id for reply in replies.recent_replies(connection, _OTHER_PROMPTS)]
    return list(replies.trainable_replies(connection, recent).values())
