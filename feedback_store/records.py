"""The records of the store, as immutable values: what every other role passes around.

Identifiers are short texts matching `[a-z0-9-]{1,64}`; times are UTC and aware; texts may be None where the rater has
not agreed to their being kept (the row still counts votes and attributes versions).
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Thumb = Literal["up", "down"]
FeedbackKind = Literal["thumb", "verdict", "ranking", "correction"]
TIE = "tie"
BOTH_BAD = "both_bad"
FinishReason = Literal["stop", "length", "cancelled"]
RoundState = Literal["requested", "selecting", "training", "gating", "published", "rejected", "failed", "cancelled"]
ROUND_ENDED: frozenset[RoundState] = frozenset({"published", "rejected", "failed", "cancelled"})
VersionState = Literal["candidate", "canary", "live", "retired", "rejected"]
Split = Literal["train", "held_out"]
Method = Literal["sft", "kto", "dpo", "reward", "ppo", "grpo"]
Message = dict[str, str]
"""One chat message: `role` (system, user or assistant) and `content`."""


@dataclass(frozen=True, slots=True)
class Rater:
    """A person, known only by a keyed hash (see `raters.rater_id_of`)."""

    rater_id: str
    channel: str
    consent: bool | None = None
    """True: text may be kept and trained on; False: declined or revoked; None: never asked."""
    consent_version: int | None = None
    quarantined: bool = False
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply was drawn. temperature 0 is greedy; top_p in (0, 1]; max_tokens ≥ 1."""

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a user saw, with everything that is needed to learn from it. Immutable; its id is the feedback receipt."""

    reply_id: str
    policy_version: int
    adapter_sha256: str | None
    """None: the base model without an adapter."""
    channel: str
    rater_id: str | None
    conversation_id: str | None
    messages: tuple[Message, ...] | None
    """The prompt: the messages before this reply. None without consent, as are the next two."""
    rendered_prompt: str | None
    text: str | None
    finish_reason: FinishReason
    sampling: Sampling
    prompt_tokens: int
    completion_tokens: int
    logprob_nats: float | None
    """Sum of log p(token) of the completion, its end token included when it ended by itself, under the policy at
    temperature 1 (not the sampling distribution): a reference log-probability that a round may use as it is."""
    latency_ms: float
    comparison_id: str | None = None
    shown_position: int | None = None
    """0 is left or first. None outside a comparison."""
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Feedback that trains nothing until an operator decides: all of a rater's, or one act (`feedback_id`)."""

    quarantine_id: int
    rater_id: str
    feedback_id: int | None
    signal: Literal["flood", "ring", "phrase", "by_hand"]
    reason: str
    figures: dict[str, Any]
    begun_by: str
    begun_at: datetime
    decision: Literal["released", "kept"] | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A rater's conversation as a list of histories shows it: one line a conversation."""

    conversation_id: str
    channel: str
    replies: int
    """How many replies of it this rater was given."""
    first_message: str | None
    """The first thing the user said; None where the text is not kept."""
    started_at: datetime
    last_reply_at: datetime


@dataclass(frozen=True, slots=True)
class Comparison:
    """Replies to one prompt shown together; `reply_ids` is the order in which they were shown (randomised)."""

    comparison_id: str
    reply_ids: tuple[str, ...]
    rater_id: str | None
    conversation_id: str | None
    channel: str
    created_at: datetime | None = None
    drawing: dict[str, Any] | None = None
    """How these replies came to be shown, where more were drawn: candidates, sets, propensity (the probability that
    just these were shown), by (distance, uncertainty or chance), distance. None: all that were drawn are shown."""


@dataclass(frozen=True, slots=True)
class NewFeedback:
    """One act of one rater, not yet stored. Exactly the fields of its `kind` are set.

    thumb: reply_id, thumb (None retracts), reason · verdict: comparison_id, verdict (a reply id of it, "tie" or
    "both_bad"; None retracts) · ranking: comparison_id, ranking (all its reply ids, best first) · correction: reply_id,
    correction. A later event of the same rater on the same target supersedes the earlier one of the same kind.
    """

    kind: FeedbackKind
    rater_id: str
    channel: str
    reply_id: str | None = None
    comparison_id: str | None = None
    thumb: Thumb | None = None
    verdict: str | None = None
    ranking: tuple[str, ...] | None = None
    correction: str | None = None
    reason: str | None = None
    idempotency_key: str | None = None
    """The caller's key, unique per rater: a second event with the same key is acknowledged and adds nothing."""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A stored event. `feedback_id` is its place in the sequence: the last one wins, never the last to arrive."""

    feedback_id: int
    act: NewFeedback


@dataclass(frozen=True, slots=True)
class FeedbackAck:
    """The receipt of a stored event, given after commit. `duplicate`: the key was known, nothing was added."""

    feedback_id: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of the loop. `fence` rises with every claim: a write that carries an older fence is refused."""

    round_id: int
    state: RoundState
    method: Method | None
    requested_by: str
    requested_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    fence: int = 0
    reference_version: int | None = None
    candidate_version: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    selection: dict[str, Any] = field(default_factory=dict)
    """Counts of what was selected; the frozen ids are rows of their own."""
    gate_report: dict[str, Any] | None = None
    reason: str | None = None
    """Why it ended as it did, for people."""
    attempts: int = 0
    """Claims since it last got any further: a round that only kills its trainers is given up."""


@dataclass(frozen=True, slots=True)
class RoundDue:
    """A time at which the schedule asks for a round, settled once: waiting for an open round to end, asked, or
    skipped (with the reason)."""

    due: str
    """Wall-clock time, like 2026-11-21T03:00."""
    state: Literal["waiting", "asked", "skipped"]
    round_id: int | None
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RoundMetric:
    """One point of a live curve: `value` of `name` (for example "loss", "kl_nats") at `step`."""

    round_id: int
    step: int
    name: str
    value: float
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """An immutable policy: a base model and an adapter (none for version 1). Only `state` ever changes."""

    version: int
    state: VersionState
    base_model: str
    """Fingerprint of the base model (see serving.engine.base_model)."""
    adapter_sha256: str | None
    parent: int | None
    method: Method | None
    round_id: int | None
    gate_report: dict[str, Any] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that answers a share of the conversations beside the live one."""

    version: PolicyVersion
    share: float
    """Part of the conversations that it answers, in [0, 1). 0: it is seen in comparisons alone."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One move of the live pointer or of the canary beside it."""

    deployment_id: int
    action: Literal["bootstrap", "promote", "rollback", "canary", "canary_stop"]
    version: int
    """What became live; for canary and canary_stop: what became, or ceased to be, the canary."""
    from_version: int | None
    """What was live before; for canary and canary_stop: what is live beside it."""
    actor: str
    reason: str
    forced: bool
    """True: promoted although the gate had not passed."""
    share: float | None = None
    """The canary's share from then on. None in every other action."""
    at: datetime | None = None
    evidence: dict[str, Any] | None = None
    """The figures behind a move that the canary's judge made."""
