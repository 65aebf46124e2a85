"""Reading the store for a round: the live version's feedback, with the prompt of every reply that it names.

Acts are read one at a time and texts are hashed and let go: what is kept is what the acts say. A store may hold a
million of them, and the server reads it whenever somebody asks how far the next round is.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from feedback_store import feedback, replies, rounds, versions
from feedback_store.connection import Connection
from feedback_store.records import Feedback, PolicyVersion, Reply
from trainer.feedback_rows import prompt_key, replies_of
from trainer.judgements import Judgements, Usable, judgements, usable
from trainer.settings import RoundSettings
from trainer.wrong_tool import Heard

_ROUNDS_LOOKED_AT = 50
_OTHER_PROMPTS = 2000
"""How many recent replies are looked through for further gate prompts."""
_EVERY_ACT = range(2**63)
"""The store leaves corrections out that no operator approved, so that all that are read count."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the store knows that a round could use. `acts` counts what was read, `quarantined` the acts of quarantined
    raters, left out."""

    live: PolicyVersion
    found: Judgements
    prompts: dict[str, str]
    """Reply id → key of its prompt, of the replies that may be learnt from."""
    quarantined: int
    heard: Heard
    """What raters gave as reasons, and how often they called both replies bad."""

    @property
    def acts(self) -> int:
        """How many acts were read."""
        return self.heard.acts


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
    on_comparisons = list(
        feedback.each_effective(connection, "comparisons", policy_version=policy_version, since=since)
    )
    on_replies = feedback.each_effective(connection, "replies", policy_version=policy_version, since=since)
    everyones = feedback.effective_count(connection, policy_version=policy_version, since=since)
    compared = sorted({act.act.comparison_id for act in on_comparisons if act.act.comparison_id is not None})
    shown = replies.comparisons_by_id(connection, compared)
    heard = Heard()
    found = judgements(
        _hearing(heard, chain(on_comparisons, on_replies)),
        shown,
        verdicts_as_thumbs=verdicts_as_thumbs,
        approved=_EVERY_ACT,
    )
    judged = (found.votes, found.pairs, found.corrections)
    named = sorted({name for items in judged for item in items for name in replies_of(item)})
    prompts = {
        reply.reply_id: prompt_key(reply.messages)
        for reply in replies.each_learnable(connection, named)
        if reply.channel not in held_back
    }
    return Evidence(live, found, prompts, everyones - heard.acts, heard)


def _hearing(heard: Heard, acts: Iterable[Feedback]) -> Iterator[Feedback]:
    for one in acts:
        heard.hear(one.act)
        yield one


def usable_of(evidence: Evidence, rounds: RoundSettings, seed: int) -> Usable:
    """Return what of the evidence a round may use under its settings' caps."""
    return usable(
        evidence.found,
        evidence.prompts,
        max_votes_per_rater=rounds.max_votes_per_rater,
        max_labels_per_annotator=rounds.max_labels_per_annotator,
        seed=seed,
    )


def last_reward_report(connection: Connection) -> dict[str, Any] | None:
    """Return how the last reward model stood to its bar (see trainer.reward_bar); None when none was trained."""
    for one in rounds.list_rounds(connection, _ROUNDS_LOOKED_AT):
        if (report := one.selection.get("reward_model")) is not None:
            return dict(report)
    return None


def other_prompts(connection: Connection, held_back: Container[str] = ()) -> list[Reply]:
    """Recent replies with kept prompts, rated or not: further prompts for the gate. `held_back`: see read_evidence."""
    recent = [reply.reply_id for reply in replies.recent_replies(connection, _OTHER_PROMPTS)]
    found = replies.trainable_replies(connection, recent).values()
    return [reply for reply in found if reply.channel not in held_back]
