"""Reading the store for a round: the live version's feedback, with every reply and comparison it names."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from feedback_store import feedback, replies, rounds, versions
from feedback_store.connection import Connection
from feedback_store.records import Feedback, PolicyVersion, Reply
from trainer.selection import Judgements, Usable, judgements, usable
from trainer.settings import RoundSettings

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
    said: tuple[Feedback, ...] = ()
    """The acts themselves: what raters gave as reasons, and how often they called both replies bad."""


def read_evidence(
    connection: Connection,
    *,
    fresh_only: bool,
    verdicts_as_thumbs: bool = True,
    since: datetime | None = None,
    held_back: Container[str] = (),
) -> Evidence:
    """Read effective feedback: on replies of the live version alone when `fresh_only` (on-policy), else on all.

    since: only acts given at or after that time. held_back: channels whose texts no round may learn from; what they
    hold is as if it had not been kept, whoever judged it.
    """
    live = versions.live_version(connection)
    policy_version = live.version if fresh_only else None
    acts = feedback.effective_feedback(connection, policy_version=policy_version, since=since)
    everyones = feedback.effective_count(connection, policy_version=policy_version, since=since)
    compared = sorted({act.act.comparison_id for act in acts if act.act.comparison_id is not None})
    shown = replies.comparisons_by_id(connection, compared)
    found = judgements(acts, shown, verdicts_as_thumbs=verdicts_as_thumbs, approved=_approved(acts))
    named = {vote.reply_id for vote in found.votes} | {item.reply_id for item in found.corrections}
    named |= {name for pair in found.pairs for name in (pair.chosen, pair.rejected)}
    texts = _not_of(held_back, replies.trainable_replies(connection, sorted(named)))
    return Evidence(live, found, texts, everyones - len(acts), len(acts), tuple(acts))


def usable_of(evidence: Evidence, rounds: RoundSettings, seed: int) -> Usable:
    """Return what of the evidence a round may use under its settings' caps."""
    return usable(
        evidence.found,
        evidence.replies,
        max_votes_per_rater=rounds.max_votes_per_rater,
        max_labels_per_annotator=rounds.max_labels_per_annotator,
        seed=seed,
    )


def _approved(acts: Sequence[Feedback]) -> frozenset[int]:
    """The corrections that an operator approved: the store leaves the others out by itself."""
    return frozenset(act.feedback_id for act in acts if act.act.kind == "correction")


def last_reward_report(connection: Connection) -> dict[str, Any] | None:
    """Return how the last reward model stood to its bar (see trainer.reward_bar); None when none was trained."""
    for one in rounds.list_rounds(connection, _ROUNDS_LOOKED_AT):
        if (report := one.selection.get("reward_model")) is not None:
            return dict(report)
    return None


def other_prompts(connection: Connection, held_back: Container[str] = ()) -> list[Reply]:
    """Recent replies with kept prompts, rated or not: further prompts for the gate. `held_back`: see read_evidence."""
    recent = [reply.reply_id for reply in replies.recent_replies(connection, _OTHER_PROMPTS)]
    return list(_not_of(held_back, replies.trainable_replies(connection, recent)).values())


def _not_of(channels: Container[str], found: dict[str, Reply]) -> dict[str, Reply]:
    return {name: reply for name, reply in found.items() if reply.channel not in channels}
